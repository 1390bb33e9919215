"""`sessionfleet knowledge`: take documents in, list, search and remove them, and move them to another index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sessions.cli.fleet import AsJson
from sessions.cli.output import clock, print_error, print_json, print_table, terminal
from sessions.errors import BadRequest, SessionfleetError
from sessions.operation import Operation
from sessions.operation import Progress as Step
from sessions.session import Session

app = typer.Typer(help="Documents that agents search: add, list, search, remove, export, import.", no_args_is_help=True)

InSession = Annotated[str | None, typer.Option("--session", help="The session's own knowledge.")]
InBase = Annotated[str | None, typer.Option("--base", help="A named knowledge base, which many sessions share.")]
OfUser = Annotated[str | None, typer.Option("--user", help="Whose session it is; alone: the user's knowledge.")]
_RECEIPT = ("source", "status", "kind", "pages", "chunks", "bytes", "error")
_SHOWN = 300


@app.command()
def add(
    files: Annotated[list[str], typer.Argument(help="Files, addresses or texts.")],
    session: InSession = None,
    base: InBase = None,
    user: OfUser = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object that goes with each, for filters.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take documents in, one after the other. A bad one is said, and the others go on; exit status 1 then."""
    target, extra = _target(session, base, user), _json(metadata)
    receipts = []
    with _bars(quiet=as_json) as bars:
        for given in files:
            receipts.append(_add(target, given, extra, bars))
    if as_json:
        print_json(receipts)
    else:
        columns = [name for name in _RECEIPT if name != "error" or any("error" in receipt for receipt in receipts)]
        print_table(columns, [[_cell(receipt.get(name)) for name in columns] for receipt in receipts], spare=("kind",))
    raise typer.Exit(1 if any("error" in receipt for receipt in receipts) else 0)


@app.command("list")
def list_documents(
    session: InSession = None, base: InBase = None, user: OfUser = None, as_json: AsJson = False
) -> None:
    """List the documents of a session, a base or a user."""
    found = _target(session, base, user).list_knowledge()
    if as_json:
        print_json(found)
    elif not found:
        print("nothing was added; `sessionfleet knowledge add FILE` does that")
    else:
        columns = ("source", "kind", "pages", "chunks", "bytes", "added")
        rows = [[*(_cell(item.get(c)) for c in columns[:-1]), clock(item["added_ms"])] for item in found]
        print_table(columns, rows, spare=("kind",))


@app.command()
def search(
    query: str,
    session: InSession = None,
    base: InBase = None,
    user: OfUser = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 5,
    as_json: AsJson = False,
) -> None:
    """Find the passages that answer a query best."""
    found = _target(session, base, user).search_knowledge(query, limit=limit)
    if as_json:
        print_json(found)
        return
    if not found:
        print("nothing was found")
    for place, item in enumerate(found, 1):
        where = [item["source"], f"page {item['page']}" if item["page"] else item["heading"]]
        terminal().print(f"[bold]{place}. {_plain(', '.join(str(part) for part in where if part))}[/bold]")
        text = " ".join(item["text"].split())
        print(f"   {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}")


@app.command()
def delete(source: str, session: InSession = None, base: InBase = None, user: OfUser = None) -> None:
    """Remove a document by its name."""
    chunks = _target(session, base, user).delete_knowledge(source)
    if not chunks:
        print_error(f"there is no document {source!r}; `sessionfleet knowledge list` shows those there are")
        raise typer.Exit(1)
    print(f"{source} removed ({chunks} chunks)")


@app.command()
def clear(
    session: InSession = None,
    base: InBase = None,
    user: OfUser = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove all documents of a session, a base or a user."""
    target = _target(session, base, user)
    if not yes:
        typer.confirm(f"Remove all {len(target.list_knowledge())} documents?", abort=True)
    print(f"{target.clear_knowledge()} chunks removed")


def _target(session: str | None, base: str | None, user: str | None) -> Session:
    """The session whose default scope is the one that was named."""
    if base is not None:
        return Session(session, user_id=user, knowledge=base)
    if session is not None:
        return Session(session, user_id=user, knowledge=True)
    if user is not None:
        return Session(user_id=user, knowledge={"scope": "user"})
    raise BadRequest("whose knowledge? give --session ID, --base NAME or --user USER")


def _add(target: Session, given: str, metadata: dict[str, Any], bars: Progress | None) -> dict[str, Any]:
    name = Path(given).name if len(given) < 200 else f"{given[:40]}…"
    bar = None if bars is None else bars.add_task(name, total=None, rate="")
    try:
        operation = target.submit_knowledge(given, metadata=metadata)
    except (SessionfleetError, OSError) as error:
        return {"source": name, "status": "failed", "error": str(error)}
    try:
        return _followed(operation, bars, bar)
    except SessionfleetError as error:
        return {"source": name, "status": "failed", "error": str(error)}
    except KeyboardInterrupt:
        operation.cancel()
        print_error(f"{name}: cancelled; what was written of it is removed")
        raise typer.Exit(130) from None


def _followed(operation: Operation, bars: Progress | None, bar: TaskID | None) -> dict[str, Any]:
    for step in operation.progress():
        if bars is not None and bar is not None:
            _show(bars, bar, step)
    receipt: dict[str, Any] = operation.result()
    if bars is not None and bar is not None:
        bars.update(bar, total=receipt["chunks"] or 1, completed=receipt["chunks"] or 1)
    return receipt


def _show(bars: Progress, bar: TaskID, step: Step) -> None:
    task = bars.tasks[bars.task_ids.index(bar)]
    elapsed = task.elapsed or 0.0
    rate = f"{step.done / elapsed:.1f} chunks/s" if step.stage == "embedding" and elapsed > 0 else step.stage
    pages = f", {step.pages} pages" if step.pages else ""
    bars.update(bar, completed=step.done, total=step.total or None, rate=rate + pages)


@contextmanager
def _bars(*, quiet: bool) -> Iterator[Progress | None]:
    """A bar for each document, where there is a terminal."""
    console = terminal(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield bars


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise BadRequest(f"--metadata {text!r}: give a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise BadRequest(f"--metadata {text!r}: give a JSON object")
    return value


def _cell(value: object) -> object:
    return "-" if value is None else value


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
