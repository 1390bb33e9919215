"""Texts are read in the charset that they are in, or refused with the option that names it."""

# ruff: noqa: RUF001 - letters that look like Latin ones

from __future__ import annotations

import codecs
import unicodedata

import pytest

from sessions.errors import BadRequest, DocumentUnsupported
from tests.unit.retrieval.test_documents import read
from workers.retrieval.documents.charsets import Labels, codec_of, label_in_page
from workers.retrieval.documents.decoding import decode, settled
from workers.retrieval.documents.reader import read_document
from workers.retrieval.documents.refusal import Refusal

RUSSIAN = "Москва - столица России. Встреча в пятницу в десять часов."
BELARUSIAN = "Сустрэча адбудзецца ў пятніцу а дзясятай гадзіне раніцы."
UKRAINIAN = "Київ є столицею України. Зустріч відбудеться у п'ятницю о десятій годині."
POLISH = "Zażółć gęślą jaźń. Łódź leży w środku kraju, a pociąg odjeżdża o dziewiątej."
CZECH = "Vlak do Prahy odjíždí v devět hodin ráno. Cestující musí být na nástupišti nejpozději o čtvrt hodiny dříve."
GREEK = "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας. Το τρένο φεύγει στις εννέα."
TURKISH = "İstanbul Türkiye'nin en kalabalık şehridir. Tren saat dokuzda kalkıyor, lütfen geç kalmayın."
HEBREW = "ירושלים היא בירת ישראל. הרכבת יוצאת בשעה תשע בבוקר."
ARABIC = "القاهرة هي عاصمة مصر. يغادر القطار في الساعة التاسعة صباحا."
THAI = "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย รถไฟออกเวลาเก้าโมงเช้า"
LATVIAN = "Rīga ir Latvijas galvaspilsēta. Vilciens atiet pulksten deviņos no rīta, lūdzu nekavējieties."
JAPANESE = "東京都は日本の首都です。大阪は商業の都市です。"
CHINESE = "北京是中国的首都。上海很大。火车九点开。"
TAIWANESE = "北京是中國的首都。上海很大。火車九點開。"
KOREAN = "서울은 대한민국의 수도이다. 기차는 아홉 시에 떠난다."
GERMAN = "Der Zug fährt um neun Uhr ab. Größere Gepäckstücke müssen vorher aufgegeben werden, übrigens auch Fahrräder."
FRENCH = (
    "Le train part à neuf heures. Les voyageurs sont priés d'être à l'heure, même en été, où la gare est très animée."
)
VIETNAMESE = "Hà Nô\u0323i là thu\u0309 đô cu\u0309a Viê\u0323t Nam. Tàu rơ\u0300i ga lúc chín giơ\u0300 sáng."


def plain(data: bytes, declared: str | None = None, inner: str | None = None, chosen: str | None = None) -> str:
    return decode(data, Labels(chosen, declared), inner=inner)


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        *((codec, RUSSIAN) for codec in ("cp1251", "koi8-r", "iso8859-5", "cp866", "mac-cyrillic")),
        ("cp1251", BELARUSIAN),
        ("cp1251", UKRAINIAN),
        ("koi8-u", UKRAINIAN),
        *((codec, text) for codec in ("cp1250", "iso8859-2", "cp852") for text in (POLISH, CZECH)),
        ("cp1253", GREEK),
        ("iso8859-7", GREEK),
        ("cp1254", TURKISH),
        ("cp1255", HEBREW),
        ("cp1256", ARABIC),
        ("iso8859-6", ARABIC),
        ("cp874", THAI),
        ("cp1257", LATVIAN),
        *((codec, JAPANESE) for codec in ("cp932", "euc_jp", "iso2022_jp")),
        ("gb18030", CHINESE),
        ("gbk", CHINESE),
        ("big5", TAIWANESE),
        ("cp949", KOREAN),
        ("iso2022_kr", KOREAN),
        *((codec, text) for codec in ("cp1252", "mac-roman", "cp437", "cp850") for text in (GERMAN, FRENCH)),
        *(
            (codec, text)
            for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
            for text in (GERMAN, RUSSIAN, "The train leaves at nine.\n")
        ),
        ("utf-16-le", f"{CHINESE}\n{CHINESE}\n"),
        ("utf-16-be", f"{JAPANESE}\n{JAPANESE}\n"),
    ],
)
def test_a_charset_that_nobody_names_is_detected(codec: str, text: str) -> None:
    """In one or two sentences."""
    assert plain(text.encode(codec)) == text


def test_vietnamese_is_detected() -> None:
    """Its charset has the marks of tones behind their letters; they are composed when the text is cleaned."""
    assert unicodedata.normalize("NFC", plain(VIETNAMESE.encode("cp1258"))) == unicodedata.normalize("NFC", VIETNAMESE)


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("iso-8859-1", "cp1252", "It’s “5 €” – ok"),
        ("us-ascii", "cp1252", "It’s"),
        ("latin1", "cp1252", "naïve – 5 €"),
        ("gb2312", "gbk", "朱镕基"),
        ("x-gbk", "gbk", "北京"),
        ("gbk", "gb18030", "𠮷野家"),
        ("x-sjis", "cp932", "①髙橋"),
        ("windows-31j", "cp932", "東京都"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("iso-8859-9", "cp1254", "İstanbul’da ğ"),
        ("tis-620", "cp874", "รถไฟ"),
        ("iso-8859-8-i", "iso8859-8", "רכבת"),
        ("x-mac-cyrillic", "mac-cyrillic", "поезд"),
        ("macintosh", "mac-roman", "fährt"),
        ("cp437", "cp437", "fährt ab"),
        ("IBM850", "cp850", "fährt ab"),
        ("iso-2022-jp", "iso2022_jp", "東京"),
        ("utf-16", "utf-16-le", "fährt"),
        ("utf-16", "utf-16-be", "fährt"),
        ("utf-16be", "utf-16-be", "поезд"),
        ("utf-32", "utf-32-be", "fährt"),
    ],
)
def test_labels_mean_what_they_mean_on_the_web(label: str, codec: str, text: str) -> None:
    """Also Python's names of charsets that the web does not have; declared or chosen."""
    assert plain(text.encode(codec), declared=label) == text
    assert plain(text.encode(codec), chosen=label) == text


@pytest.mark.parametrize(
    "label", ["utf-7", "hz-gb-2312", "rot13", "punycode", "unicode_escape", "idna", "zip", "\0", ""]
)
def test_what_is_no_charset_of_texts_is_not_known(label: str) -> None:
    """UTF-7 hides markup in ASCII; the others are codecs of Python that are no charsets."""
    assert codec_of(label) is None
    assert plain("über +AGE-".encode(), declared=label) == "über +AGE-"


def test_a_mark_wins_over_every_label() -> None:
    """It cannot be there by chance."""
    for mark, codec in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ):
        data = mark + "fährt".encode(codec)
        assert plain(data, declared="koi8-r", inner="gbk") == plain(data, chosen="koi8-r") == "fährt"


def test_a_wrong_label_does_not_spoil_a_text() -> None:
    """A server's label is believed if the bytes fit; the page's own comes next, then UTF-8 and detection."""
    assert plain(GERMAN.encode(), declared="iso-8859-1") == GERMAN
    assert plain(RUSSIAN.encode("cp1251"), declared="shift_jis", inner="windows-1251") == RUSSIAN
    assert plain(RUSSIAN.encode("cp1251"), declared="utf-8") == RUSSIAN
    assert plain(JAPANESE.encode(), declared="utf-16") == JAPANESE
    assert plain(RUSSIAN.encode("koi8-r"), declared="koi8-r", inner="windows-1251") == RUSSIAN


def test_a_short_text_that_is_utf8_by_chance_is_read_by_its_label() -> None:
    """Two Chinese characters can be two pairs that UTF-8 has as well."""
    data = "茅台".encode("gbk")
    assert data.decode("utf-8")
    assert plain(data, declared="gb2312") == "茅台"


def test_a_chosen_charset_is_obeyed_or_refused() -> None:
    """It is not replaced by another one that seems likelier."""
    assert plain("Grüße".encode(), chosen="cp1252") == "GrÃ¼ÃŸe"
    with pytest.raises(Refusal, match="there is no such charset"):
        plain(b"x", chosen="klingon")
    with pytest.raises(Refusal, match="is not in the charset 'utf-8'"):
        plain(RUSSIAN.encode("cp1251"), chosen="utf-8")


def test_a_damaged_byte_does_not_change_the_charset() -> None:
    """A log that was cut within a letter is still UTF-8."""
    damaged = (GERMAN * 5).encode()[:-10] + b"\xff and more\n" + RUSSIAN.encode()[:-2]
    assert "fährt" in plain(damaged)
    assert "пятницу" in plain(damaged)


@pytest.mark.parametrize("char", ["é", "€", "’", "°", "ü"])
def test_a_late_byte_is_found(char: str) -> None:
    """Long ASCII does not make the rest ASCII, and one letter is Windows-1252, as in most such files."""
    text = "The train leaves at nine.\n" * 30_000 + f"The caf{char} opens at 10.\n" + "And so on.\n" * 1000
    assert f"caf{char} opens" in plain(text.encode("cp1252"))


def test_text_that_was_encoded_twice_is_encoded_once() -> None:
    """What quotes such text is left alone."""
    assert plain(GERMAN.encode().decode("cp1252").encode()) == GERMAN
    for text in (
        f"{GERMAN} In UTF-8 read as Latin-1, ä is Ã¤, ö is Ã¶, and ü is Ã¼.",
        "Ã¤ is not a letter",
        "São Tomé",
    ):
        assert plain(text.encode()) == text


@pytest.mark.parametrize(
    ("page", "label"),
    [
        ('<meta charset="koi8-r">', "koi8-r"),
        ("<META HTTP-EQUIV=content-type CONTENT='text/html; charset=koi8-r'>", "koi8-r"),
        (f"<html><head><script>{'x' * 5000}</script><meta charset=koi8-r></head>", "koi8-r"),
        ("<!-- <meta charset=gbk> --><meta charset=koi8-r>", "koi8-r"),
        ('<?xml version="1.0" encoding="koi8-r"?><html>', "koi8-r"),
        ("<meta charset=utf-16>", "utf-8"),
        ("<body>Write <meta charset=koi8-r> in the head", None),
        ("<p>charset=koi8-r", None),
    ],
)
def test_a_page_declares_its_charset_in_its_head(page: str, label: str | None) -> None:
    """Wherever it is in it."""
    assert label_in_page(page.encode()) == label


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f"город;поезд\nМосква;{RUSSIAN}"),
        ("a.tsv", f"город\tпоезд\nМосква\t{RUSSIAN}"),
        ("a.json", f'{{"город": "{RUSSIAN}"}}'),
        ("a.jsonl", f'{{"город": "{RUSSIAN}"}}'),
        ("a.md", f"# Москва\n\n{RUSSIAN}"),
        ("a.html", f"<html><body><p>{RUSSIAN}</p></body></html>"),
    ],
)
async def test_every_kind_of_text_is_decoded_alike(name: str, content: str) -> None:
    """Detected in a child process, or named by the user."""
    for options in ({}, {"charset": "windows-1251"}):
        document = await read_document(content.encode("cp1251"), name=name, **options)  # type: ignore[arg-type]
        assert RUSSIAN in document.sections[0].text


async def test_what_is_refused_names_the_option() -> None:
    """The user knows the charset, perhaps."""
    with pytest.raises(DocumentUnsupported, match=r"'a\.txt' is .* option `charset`.*--charset"):
        await read(bytes(range(256)) * 8, "a.txt")
    with pytest.raises(DocumentUnsupported, match=r"'a\.txt' is in a charset that cannot be detected.*--charset"):
        await read("東京都大阪".encode("euc_jp")[1:], "a.txt")


def test_detection_is_left_to_a_child() -> None:
    """The detector takes 30 MB, and reads bytes that nobody knows."""
    assert settled(GERMAN.encode(), Labels()) == GERMAN
    assert settled(GERMAN.encode("cp1252"), Labels(declared="iso-8859-1")) == GERMAN
    assert settled(GERMAN.encode("cp1252"), Labels()) is None


def test_an_option_that_cannot_be_a_charset_is_refused_at_once() -> None:
    """Before anything is sent."""
    from sessions.client.arguments.knowledge import NewDocument

    assert NewDocument.of("a text", charset="windows-1251").charset == "windows-1251"
    for wrong in ("", "utf 8", "x" * 100, "\u043a\u043e\u0438", 8):
        with pytest.raises(BadRequest, match="charset"):
            NewDocument.of("a text", charset=wrong)  # type: ignore[arg-type]


def test_the_option_is_a_field_over_http() -> None:
    """In JSON and in forms, which share their fields."""
    from pydantic import ValidationError

    from sessions.gateway.documents import FORM_SCHEMA, DocumentFields
    from sessions.gateway.documents import NewDocument as SentDocument

    sent = SentDocument.model_validate({"url": "https://example.org/a.txt", "charset": "windows-1251"})
    assert sent.model_dump(exclude={"text", "url"})["charset"] == "windows-1251"
    assert FORM_SCHEMA["properties"].keys() - {"file"} == DocumentFields.model_fields.keys()
    with pytest.raises(ValidationError):
        DocumentFields.model_validate({"charset": "utf 8"})


def test_a_request_without_the_option_has_the_form_that_it_had() -> None:
    """A repeat of it after the upgrade is the same request."""
    from sessions.protocol.knowledge_requests import AddKnowledge

    request = AddKnowledge(scope="base:handbook", source="a.txt", origin="upload")
    assert "charset" not in request.spec().body
    named = request.model_copy(update={"charset": "koi8-r"})
    assert AddKnowledge.model_validate(named.spec().body) == named
