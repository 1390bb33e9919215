"""`sessionfleet knowledge`: add, list, search and remove documents, and move them to another index."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from broker_config.printable import one_line
from broker_config.settings import Settings, load_settings
from sessions.api.session import Session
from sessions.cli.fleet import AsJson
from sessions.cli.ingest import bars, given_documents, named, take_in_all
from sessions.cli.interrupts import INTERRUPTED, heed_interrupts
from sessions.cli.metadata import Filters, Metadata, json_option
from sessions.cli.output import (
    cell,
    clock,
    confirm,
    counted,
    enumerated,
    print_error,
    print_json,
    print_styled,
    print_table,
    say,
)
from sessions.cli.receipts import print_receipts
from sessions.cli.store import running_store
from sessions.client.arguments.folders import FolderFile
from sessions.client.arguments.options import DocumentOptions
from sessions.client.arguments.values import charset_label
from sessions.errors import BackendError, BadRequest, MissingExtra
from sessions.fleet.process import child_environment, missing_for_retrieval
from sessions.own_packages import own_program

app = typer.Typer(
    help="Manage documents that agents search: add, list, search, delete, export, import.", no_args_is_help=True
)

InSession = Annotated[str | None, typer.Option("--session", help="A session's own knowledge.")]
InBase = Annotated[str | None, typer.Option("--base", help="A named knowledge base, which sessions can share.")]
OfUser = Annotated[
    str | None, typer.Option("--user", help="The session's user; without --session: the user's knowledge.")
]
_SHOWN = 300


@app.command()
def add(
    files: Annotated[list[str], typer.Argument(help="Files, folders, URLs or texts.")],
    session: InSession = None,
    base: InBase = None,
    user: OfUser = None,
    metadata: Metadata = None,
    charset: Annotated[
        str | None,
        typer.Option(help="Of text files, such as windows-1251; by default the one declared in them, or detected."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add documents, one after the other; Ctrl-C cancels. If one fails, the others continue; exit status 1 then.

    Of a folder, all documents in it and below it are added, under their paths in it; files of other kinds, empty and
    hidden ones are skipped. Adding a folder again adds what is new and replaces what was changed.
    """
    target = _target(session, base, user)
    options = DocumentOptions(
        metadata=json_option("--metadata", metadata), charset=None if charset is None else charset_label(charset)
    )
    given, receipts = given_documents(files), list[dict[str, Any]]()
    heed_interrupts()
    try:
        with bars(quiet=as_json) as shown:
            receipts.extend(take_in_all(target, given, options, shown))
    except KeyboardInterrupt:
        print_receipts(receipts, as_json)
        print_error(f"cancelled; {_not_added(given[len(receipts) :])}. Whatever was written of them is removed")
        raise typer.Exit(INTERRUPTED) from None
    except BackendError as error:
        print_receipts(receipts, as_json)
        print_error(f"{error}; {_not_added(given[len(receipts) :])}")
        raise typer.Exit(1) from None
    print_receipts(receipts, as_json)
    raise typer.Exit(1 if any("error" in receipt for receipt in receipts) else 0)


def _also_in(passage: dict[str, Any]) -> str:
    others = sorted({place["source"] for place in passage.get("also_in", ())} - {passage["source"]})
    return f"also in {enumerated(others)}" if others else ""


def _not_added(left: list[object]) -> str:
    names = [repr(named(one)) for one in left if not (isinstance(one, FolderFile) and one.skipped)]
    return f"not added: {enumerated(names)}"


@app.command("list")
def list_documents(
    session: InSession = None, base: InBase = None, user: OfUser = None, as_json: AsJson = False
) -> None:
    """List the documents of a session, a base or a user."""
    # With the address filled in: looking at a fleet must not start one.
    found = _target(session, base, user, running_store(load_settings())).list_knowledge()
    if as_json:
        print_json(found)
    elif not found:
        say("nothing was added yet; use `sessionfleet knowledge add FILE`")
    else:
        columns = ("source", "kind", "pages", "chunks", "bytes", "added")
        rows = [[*(cell(item.get(c)) for c in columns[:-1]), clock(item["added_ms"])] for item in found]
        print_table(columns, rows, spare=("kind",))


@app.command()
def search(
    query: str,
    session: InSession = None,
    base: InBase = None,
    user: OfUser = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 5,
    filters: Filters = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of each passage; by default the usual floor.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the passages that answer a query best."""
    among = json_option("--filters", filters)
    found = _target(session, base, user).search_knowledge(query, limit, among, min_score=min_score)
    if as_json:
        print_json(found)
        return
    if not found:
        say("nothing was found")
    for place, item in enumerate(found, 1):
        where = [item["source"], f"page {item['page']}" if item["page"] else item["heading"], _also_in(item)]
        print_styled((f"{place}. {', '.join(one_line(str(part)) for part in where if part)}", "bold"))
        text = " ".join(item["text"].split())
        say(f"   {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}")


@app.command()
def delete(source: str, session: InSession = None, base: InBase = None, user: OfUser = None) -> None:
    """Remove a document by its name."""
    chunks = _target(session, base, user).delete_knowledge(source)
    if not chunks:
        print_error(f"there is no document {source!r}; `sessionfleet knowledge list` lists the documents")
        raise typer.Exit(1)
    say(f"{source} removed ({counted(chunks, 'chunk')})")


@app.command()
def clear(
    session: InSession = None,
    base: InBase = None,
    user: OfUser = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove all documents of a session, a base or a user."""
    target = _target(session, base, user)
    if not yes:
        confirm(f"Remove {counted(len(target.list_knowledge()), 'document')}?")
    say(f"{counted(target.clear_knowledge(), 'chunk')} removed")


@app.command("export")
def export_index(file: Annotated[Path, typer.Argument(help="The file to write: JSON, one record per line.")]) -> None:
    """Write all chunks, with their vectors, to a file: a backup of the index, or for `import` elsewhere.

    The embedded index can be read while no worker serves retrieval, so stop the fleet before.
    """
    _move("export", file)


@app.command("import")
def import_index(file: Annotated[Path, typer.Argument(help="A file written by `export`.")]) -> None:
    """Import an export into this deployment's index: QDRANT_URL's, or the embedded one of this home."""
    _move("import", file)


def _move(command: str, file: Path) -> NoReturn:
    """Web backends do not install the index engine, so this is a program of the workers."""
    if (missing := missing_for_retrieval()) is not None:
        raise MissingExtra(f"{missing} is not installed: run `pip install 'sessionfleet[worker,documents]'`")
    program = own_program("workers.retrieval.transfer_cli", command, str(file))
    os.execve(sys.executable, program, child_environment(load_settings()))  # noqa: S606


def _target(session: str | None, base: str | None, user: str | None, settings: Settings | None = None) -> Session:
    """The session whose default scope is the one that was named."""
    if base is not None:
        return Session(session, user_id=user, knowledge=base, settings=settings)
    if session is not None:
        return Session(session, user_id=user, knowledge=True, settings=settings)
    if user is not None:
        return Session(user_id=user, knowledge={"scope": "user"}, settings=settings)
    raise BadRequest("whose knowledge? use --session ID, --base NAME or --user USER")
