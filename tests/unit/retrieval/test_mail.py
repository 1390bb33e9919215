"""Mails and saved pages are read as their reader sees them, each text once."""

from __future__ import annotations

import base64
from email.message import EmailMessage

import pytest

from sessions.errors import DocumentEncrypted, DocumentUnsupported
from tests.unit.retrieval.test_documents import read
from workers.retrieval.documents.charsets import Labels
from workers.retrieval.documents.kinds import Kind, find_kind
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.mail import read_mail
from workers.retrieval.documents.refusal import Reason, Refusal


def mail(**headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in {
        "From": "Ann <ann@example.org>",
        "To": "bob@example.org",
        "Subject": "Trains",
        **headers,
    }.items():
        message[name] = value
    return message


def text_of(data: EmailMessage | bytes) -> str:
    raw = data if isinstance(data, bytes) else data.as_bytes()
    return "\n\n".join(section.text for section in read_mail(raw, DocumentLimits(), Labels()).sections)


async def test_a_mail_begins_with_its_headers() -> None:
    """Read in a child process, like other formats that strangers send."""
    message = mail(Subject="Grüße aus Łódź", Date="Fri, 06 Nov 2026 10:00:00 +0100", Cc="carl@example.org")
    message.set_content("Der Preis beträgt 5 €, und die Lieferung ist frei. " * 3, cte="quoted-printable")
    document = await read(message.as_bytes(), "a.eml")
    (section,) = document.sections
    assert document.kind == "mail"
    assert section.heading == "Grüße aus Łódź"
    assert section.text.startswith(
        "Subject: Grüße aus Łódź\nFrom: Ann <ann@example.org>\nTo: bob@example.org\nCc: carl@example.org\n"
        "Date: Fri, 06 Nov 2026 10:00:00 +0100\n\nDer Preis beträgt 5 €, und die Lieferung ist frei."
    )


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-2", "windows-1250"])
def test_transfer_encodings_and_charsets_are_undone(encoding: str, charset: str) -> None:
    """Whatever the body is packed in."""
    text = "A train" if encoding == "7bit" else "Zażółć gęślą jaźń"
    message = mail()
    message.set_content(text, charset=charset, cte=encoding)
    assert text in text_of(message)


def test_a_body_in_two_forms_is_read_once() -> None:
    """In HTML, which has the headings; without a text in it, the other one."""
    message = mail()
    message.set_content("The train leaves at nine.")
    message.add_alternative("<h1>Departure</h1><p>The train leaves at nine.</p>", subtype="html")
    assert text_of(message).count("leaves at nine") == 1
    (section,) = read_mail(message.as_bytes(), DocumentLimits(), Labels()).sections
    assert section.heading == "Trains > Departure"
    only = mail()
    only.set_content("The train leaves at nine.")
    only.add_alternative("<img src='cid:x'>", subtype="html")
    assert text_of(only).count("leaves at nine") == 1


def test_attachments_are_named_and_not_read() -> None:
    """A document of its own is added as one."""
    message = mail()
    message.set_content("See the contract.")
    message.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename="Verträge 2026.pdf")
    message.add_attachment("secret words", filename="notes.txt")
    found = text_of(message)
    assert "Attachments: Verträge 2026.pdf, notes.txt\n\nSee the contract." in found
    assert "secret words" not in found


def test_forwarded_mails_are_read_with_their_headers() -> None:
    """Also if one is forwarded in another; a bomb of them is refused."""
    inner = mail(Subject="Original")
    inner.set_content("The train leaves at nine.")
    message = mail(Subject="Fwd: Original")
    message.set_content("As discussed.")
    message.add_attachment(inner)
    sections = read_mail(message.as_bytes(), DocumentLimits(), Labels()).sections
    assert [section.heading for section in sections] == ["Fwd: Original", "Fwd: Original > Original"]
    assert "Subject: Original" in sections[1].text
    assert "leaves at nine" in sections[1].text
    for _ in range(25):
        message = mail()
        message.add_attachment(inner)
        inner = message
    with pytest.raises(Refusal, match="nested too deeply"):
        text_of(message)


async def test_a_saved_page_is_its_text() -> None:
    """Its headers are a browser's; frames and styles are no texts."""
    page = (
        "From: <Saved by Blink>\r\nSnapshot-Content-Location: https://example.org/prices\r\nSubject: Prices\r\n"
        'MIME-Version: 1.0\r\nContent-Type: multipart/related; type="text/html"; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        "<html><head><title>Prices</title></head><body><p>Der Preis betr=C3=A4gt 5=E2=82=AC und die Lie=\r\n"
        "ferung ist frei.</p></body></html>\r\n"
        "--b\r\nContent-Type: text/css\r\n\r\nbody { color: red }\r\n--b--\r\n"
    )
    for name in ("page.mhtml", "page.mht", "page"):
        document = await read(page, name)
        text = "\n".join(section.text for section in document.sections)
        assert text == (
            "Subject: Prices\nAddress: https://example.org/prices\n\nDer Preis beträgt 5€ und die Lieferung ist frei."
        )


def test_a_page_with_a_name_is_no_attachment() -> None:
    """Some programs name the page of a mail like a file."""
    raw = (
        b'From: a@b.c\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary="b"\n\n'
        b"--b\nContent-Type: text/html; name=page.html\n\n<p>The train leaves at nine.\n--b--\n"
    )
    assert text_of(raw) == "From: a@b.c\n\nThe train leaves at nine."


def test_headers_in_every_state_are_read() -> None:
    """Encoded in words, cut within a letter, in raw bytes, or wrong."""
    japanese = base64.b64encode("東京都の電車".encode("iso2022_jp")).decode()
    halves = "é".encode()
    for raw, subject in (
        (f"=?ISO-2022-JP?B?{japanese}?=".encode(), "東京都の電車"),
        (b"=?windows-1251?Q?=CF=EE=E5=E7=E4?= at 9", "Поезд at 9"),
        (b"=?utf-8?Q?caf=%02X?= =?utf-8?Q?=%02X?=" % (halves[0], halves[1]), "café"),
        ("Zug nach Köln".encode(), "Zug nach Köln"),
        ("Zug nach Köln, früh".encode("cp1252"), "Zug nach Köln, früh"),
        (b"=?klingon?Q?Qapla=27?=", "Qapla'"),
        (b"=?utf-8?B?!!!?= broken", None),
        (b"a\r\n folded line", "a folded line"),
    ):
        found = text_of(b"From: a@b.c\r\nSubject: " + raw + b"\r\n\r\ntext\r\n")
        assert found.endswith("\n\ntext")
        assert subject is None or f"Subject: {subject}\n" in found


def test_soft_line_breaks_are_undone() -> None:
    """Of text in format=flowed."""
    raw = b"From: a@b.c\nContent-Type: text/plain; format=flowed\n\nThe train leaves \nat nine.\n\n-- \nAnn\n"
    assert "leaves at nine.\n\n--\nAnn" in text_of(raw)


def test_what_is_encrypted_or_signed() -> None:
    """Of a signed mail the text is read; an encrypted one has none."""
    secret = (
        b'From: a@b.c\nContent-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="b"\n\n'
        b"--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b--\n"
    )
    with pytest.raises(Refusal) as caught:
        text_of(secret)
    assert caught.value.reason is Reason.ENCRYPTED
    signed = (
        b'From: a@b.c\nContent-Type: multipart/signed; boundary="b"\n\n--b\nContent-Type: text/plain\n\nThe text\n'
        b"--b\nContent-Type: application/pgp-signature; name=x.asc\n\nxyz\n--b--\n"
    )
    assert text_of(signed) == "From: a@b.c\n\nThe text"


@pytest.mark.parametrize(
    ("data", "name", "content_type", "kind"),
    [
        (b"Subject: x\n\ntext", "a.eml", None, Kind.MAIL),
        (b"Subject: x\n\ntext", "a", "message/rfc822", Kind.MAIL),
        (b"Received: by x\r\n\tfor y\r\nFrom: a@b.c\r\nSubject: x\r\n\r\ntext", "a", None, Kind.MAIL),
        (b"From: Ann\nTo: Bob\nSubject: Trains\n\nDear Bob", "letter.txt", None, Kind.TEXT),
        (b"Received: two parcels\nFrom: the post\n\nas text", "notes.md", None, Kind.MARKDOWN),
        (b"Message-ID: is a header\nand this is none\n", "notes.txt", None, Kind.TEXT),
    ],
)
def test_what_is_a_mail(data: bytes, name: str, content_type: str | None, kind: Kind) -> None:
    """By its name, its type, or headers that only mails have."""
    assert find_kind(data, name=name, content_type=content_type) is kind


async def test_other_mails_are_refused_by_name() -> None:
    """With the form to send instead."""
    message = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512) + "__properties_version1.0".encode("utf-16-le")
    with pytest.raises(DocumentUnsupported, match=r"'a\.msg' is an Outlook message \(\.msg\); save it as \.eml"):
        await read(message, "a.msg")
    with pytest.raises(DocumentUnsupported, match=r"'all\.mbox' is a mailbox; send its mails one by one, as \.eml"):
        await read(b"From a@b.c Fri Nov  6 10:00:00 2026\nSubject: x\n\ntext\n", "all.mbox")
    with pytest.raises(DocumentEncrypted, match="is an encrypted mail"):
        await read(b"From: a@b.c\nContent-Type: application/pkcs7-mime; name=smime.p7m\n\nx\n", "a.eml")
