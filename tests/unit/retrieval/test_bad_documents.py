"""Bad documents end in a clear error that names them, soon, and affect nothing else."""

from __future__ import annotations

import asyncio
import io
import json
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sessions import errors
from tests.support.documents import make_docx, make_encrypted_pdf, make_pdf
from tests.support.waiting import await_until
from workers.retrieval.documents import child_process
from workers.retrieval.documents.kinds import Kind
from workers.retrieval.documents.limits import DocumentLimits
from workers.retrieval.documents.reader import read_document

LIMITS = DocumentLimits()
JUNK = random.Random(1).randbytes(2000)
PROSE = "All human beings are born free and equal in dignity and rights. " * 20


def damaged_docx(name: str, contents: bytes) -> bytes:
    """A DOCX with an entry exchanged or added."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(make_docx(["x"]))) as before,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for entry in before.namelist():
            if entry != name:
                after.writestr(entry, before.read(entry))
        after.writestr(name, contents)
    return out.getvalue()


def lying_docx(contents: bytes) -> bytes:
    """A DOCX whose main part claims to have ten bytes, with the checksum of these."""
    data = bytearray(damaged_docx("word/document.xml", contents))
    central = data.index(b"PK\x01\x02")
    while data[central + 46 : central + 63] != b"word/document.xml":
        central = data.index(b"PK\x01\x02", central + 4)
    local = struct.unpack_from("<I", data, central + 42)[0]
    for header, at in ((central, 16), (local, 14)):
        struct.pack_into("<I", data, header + at, zlib.crc32(contents[:10]))
        struct.pack_into("<I", data, header + at + 8, 10)
    return bytes(data)


ENTITIES = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><w:document>&b;</w:document>'

BAD = [
    ("empty.pdf", b"", errors.DocumentEmpty, "is empty"),
    ("blank.txt", b" \r\n\t ", errors.DocumentEmpty, "is empty"),
    ("scan.pdf", make_pdf(["", " "]), errors.DocumentEmpty, "text recognition"),
    ("nothing.html", b"<html><script>1</script>", errors.DocumentEmpty, "no text"),
    ("nothing.docx", make_docx([""]), errors.DocumentEmpty, "no text"),
    ("nothing.json", b'{"a": null}', errors.DocumentEmpty, "no text"),
    ("secret.pdf", make_encrypted_pdf(["x"], password="x"), errors.DocumentEncrypted, "without a password"),
    ("secret.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
     errors.DocumentEncrypted, "without a password"),
    ("old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + JUNK, errors.DocumentUnsupported, "DOCX"),
    ("cut.pdf", make_pdf(["page"] * 20)[:-400], errors.DocumentCorrupt, "truncated"),
    ("web.pdf", b"%PDF-1.4\n1 0 obj << /Linearized 1 /L 99999 >>" + make_pdf(["x"]), errors.DocumentCorrupt, "99,999"),
    ("junk.pdf", b"%PDF-1.7\n" + JUNK, errors.DocumentCorrupt, "damaged"),
    ("filter.pdf", make_pdf(["x"]).replace(b"/Length", b"/Filter /Odd /Length"), errors.DocumentCorrupt, "/Odd"),
    ("text.pdf", b"This is a text.", errors.DocumentCorrupt, "not a PDF"),
    ("page.docx", b"<!doctype html><p>Log in", errors.DocumentCorrupt, "not a DOCX"),
    ("cut.docx", make_docx([PROSE])[:-200], errors.DocumentCorrupt, "truncated"),
    ("hollow.docx", damaged_docx("word/document.xml", b"no xml"), errors.DocumentCorrupt, "not a valid DOCX"),
    ("entities.docx", damaged_docx("word/document.xml", ENTITIES), errors.DocumentCorrupt, "entity"),
    ("entities16.docx", damaged_docx("word/document.xml", ENTITIES.decode().encode("utf-16")),
     errors.DocumentCorrupt, "entity"),
    ("bomb.docx", damaged_docx("word/document.xml", bytes(8_000_000)), errors.DocumentTooLarge, "200 times"),
    ("sheet.xlsx", damaged_docx("x", b"").replace(b"word/", b"xlsx/"), errors.DocumentUnsupported, "archive"),
    ("picture.png", b"\x89PNG\r\n\x1a\n" + JUNK, errors.DocumentUnsupported, "picture"),
    ("junk", JUNK, errors.DocumentUnsupported, "not text"),
    ("junk.txt", JUNK.replace(b"\x00", b""), errors.DocumentUnsupported, "not text"),
    ("nul.csv", b"a,b\n\x00,1", errors.DocumentUnsupported, "not text"),
    ("deep.json", b"[" * 60_000, errors.DocumentCorrupt, "nested too deeply"),
    ("deeper.json", b"[" * 150 + b"]" * 150, errors.DocumentCorrupt, "nested too deeply"),
    ("bad.json", b'{"a": 1', errors.DocumentCorrupt, "not valid JSON"),
    ("bad.jsonl", b'{"a": 1}\nnonsense\n', errors.DocumentCorrupt, "line 2"),
    ("cell.csv", b'a,b\n"' + b"x" * 300_000 + b'",1', errors.DocumentTooLarge, "quotation mark"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "error", "says"), BAD, ids=[name for name, *_ in BAD])
async def test_a_bad_document_has_a_clear_error(
    name: str, data: bytes, error: type[errors.DocumentError], says: str
) -> None:
    """The error has its own class, the document's name and the reason."""
    with pytest.raises(errors.DocumentError) as caught:
        await read_document(data, name=name)
    assert (type(caught.value), repr(name) in str(caught.value), says in str(caught.value)) == (error, True, True), (
        caught.value
    )


@pytest.mark.parametrize(
    ("name", "data", "limits", "says"),
    [
        ("a.txt", b"x" * 101, replace(LIMITS, document_bytes=100), "101 bytes, more than 100"),
        ("a.txt", b"x" * 101, replace(LIMITS, text_chars=100), "100 characters"),
        ("a.md", b"x" * 101, replace(LIMITS, text_chars=100), "100 characters"),
        ("a.csv", b"a\n" + b"x\n" * 101, replace(LIMITS, text_chars=100), "100 characters"),
        ("a.json", json.dumps({"long": {"path": [1] * 50}}).encode(), replace(LIMITS, text_chars=100), "100 char"),
        ("a.pdf", make_pdf(["x" * 60] * 2), replace(LIMITS, text_chars=100), "100 characters"),
        ("a.pdf", make_pdf(["x"] * 3), replace(LIMITS, pages=2), "3 pages, more than 2"),
        ("a.docx", make_docx(["x" * 101]), replace(LIMITS, text_chars=100), "100 characters"),
        ("a.docx", make_docx(["x"]), replace(LIMITS, entries=5), "more than 5"),
        ("a.docx", make_docx(["x"]), replace(LIMITS, unpacked_bytes=1000), "unpacks to more"),
        ("a.json", b"[" + b"[]," * 2_000_000 + b"1]", replace(LIMITS, memory_bytes=128 << 20), "128 MiB of memory"),
        ("a.csv", b"a,b\n" + b"1,2\n" * 2_000_000, replace(LIMITS, seconds=0.5), "0.5 s of CPU time"),
    ],
)
async def test_a_limit_ends_in_a_clear_error(name: str, data: bytes, limits: DocumentLimits, says: str) -> None:
    """Sizes are counted while they grow; memory and time are the child's own limits."""
    with pytest.raises(errors.DocumentTooLarge, match=says) as caught:
        await read_document(data, name=name, limits=limits)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "size", "seconds"),
    [(Kind.MARKDOWN, 200_000, 15), (Kind.HTML, 200_000, 15), (Kind.PDF, 200_000, 70), (Kind.CSV, 32 << 20, 300)],
)
def test_the_processor_is_given_by_a_documents_size(kind: Kind, size: int, seconds: float) -> None:
    """A small file that drives its parser mad ends soon; a large one has its time, however busy the machine is."""
    assert LIMITS.cpu_seconds(kind, size) <= seconds
    assert LIMITS.cpu_seconds(kind, 64 << 20) == LIMITS.seconds


async def test_an_archive_that_lies_about_its_sizes_is_not_unpacked_beyond_them() -> None:
    """`zipfile` would unpack the whole of an entry before it looks at how long it should be."""
    bomb = lying_docx(bytes(200_000_000))
    with pytest.raises(errors.DocumentCorrupt, match="not a valid DOCX"):
        await read_document(bomb, name="lying.docx", limits=replace(LIMITS, memory_bytes=160 << 20))


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if str(child_process._CHILD) in child.cmdline()]


async def test_cancelling_ends_the_child() -> None:
    """It does not spend minutes on a document that is no longer wanted."""
    task = asyncio.create_task(read_document(b"<html>" + b"<div>" * 100_000, name="a.html"))

    async def started() -> list[psutil.Process]:
        return children()

    (child,) = await await_until(started, description="the child runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not child.is_running()


async def test_an_error_of_the_caller_ends_the_child() -> None:
    """An error in `on_page` ends the child process, too."""

    def fail(number: int, of: int) -> None:
        raise LookupError(number, of)

    with pytest.raises(LookupError):
        await read_document(make_pdf(["x"] * 5), name="a.pdf", on_page=fail)
    assert children() == []


async def test_the_event_loop_runs_on_while_a_document_is_parsed() -> None:
    """Heartbeats of other work are not late because of a large PDF."""
    longest, started = 0.0, time.monotonic()
    task = asyncio.create_task(read_document(make_pdf([PROSE] * 300), name="a.pdf"))
    while not task.done():
        began = time.monotonic()
        await asyncio.sleep(0)
        longest = max(longest, time.monotonic() - began)
    assert (await task).pages == 300
    # On a busy machine everything takes longer, this loop's turns as well as the parsing that they must not wait for.
    assert longest < max(0.25, (time.monotonic() - started) / 8)


async def test_documents_are_read_from_the_loop_of_any_thread() -> None:
    """A worker's event loop is not in its main thread."""
    document = await asyncio.to_thread(lambda: asyncio.run(read_document(make_pdf(["x"]), name="a.pdf")))
    assert document.pages == 1


@pytest.mark.parametrize(
    ("kind", "data", "parser"), [("pdf", make_pdf(["x"]), "pypdf"), ("docx", make_docx(["x"]), "zipfile")]
)
def test_a_child_loads_neither_engine_nor_broker(kind: str, data: bytes, parser: str) -> None:
    """It starts in a tenth of a second, knows nothing worth stealing, and loads no parser of another kind."""
    told = (
        "import runpy, sys\n"
        "sys.argv = ['child', sys.argv[2]]\n"
        f"runpy.run_path({str(child_process._CHILD)!r}, run_name='__main__')\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    settings = json.dumps(
        {
            "kind": kind,
            "labels": {},
            "limits": {"seconds": 30, "memory_bytes": 1 << 30},
            "recognition": {"problem": "", "here": False},
        }
    )
    done = subprocess.run([sys.executable, "-c", told, "-", settings], input=data, capture_output=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])[:2] == ["end", kind]
    modules = done.stderr.decode().split()
    loaded = {name.partition(".")[0] for name in modules}
    assert parser in loaded
    assert ("workers.retrieval.documents.layout" in modules) is (kind == "pdf")
    assert loaded.isdisjoint({
        "celery", "redis", "pydantic_ai", "sessions", "asyncio", "numpy", "docx", "qdrant_edge", "selectolax",
    })  # fmt: skip


def test_importing_the_package_loads_no_parser() -> None:
    """A worker that reads no documents pays nothing for them."""
    code = (
        "import sys, workers.retrieval.documents.reader, workers.retrieval.chunking, workers.retrieval.ports\n"
        "print(*sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"pypdf", "docx", "lxml", "selectolax", "markdown_it", "semantic_text_splitter", "numpy"})
