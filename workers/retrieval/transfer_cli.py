"""The program behind `sessionfleet knowledge export` and `import`: copies a deployment's index to a file and back.

Only chunks and vectors are copied. The catalog of documents is in the store, and is not changed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from broker_config.settings import Settings, load_settings
from sessions.cli.output import counted, print_error, say
from sessions.errors import BadRequest, SessionfleetError
from workers.retrieval.index.factory import FOLDER, open_index
from workers.retrieval.ports import KnowledgeIndex
from workers.retrieval.transfer import export_knowledge, import_knowledge

_TIMEOUT: Final = 60.0


async def export_to(file: Path, settings: Settings) -> str:
    """Write the index to a file, which appears only when it is complete. Returns a summary.

    Raises:
        BadRequest: there is no index.
        IndexLocked: a worker owns the index.
        IndexUnavailable: the index cannot be read.
    """
    if settings.qdrant_url is None and not (settings.home / FOLDER).is_dir():
        raise BadRequest(
            f"there is no knowledge in {str(settings.home)!r}: set SESSIONFLEET_HOME or QDRANT_URL to its location"
        )
    part, index, chunks = file.with_name(file.name + ".part"), _index(settings), 0
    try:
        with part.open("w", encoding="utf-8") as out:
            async for record in export_knowledge(index):
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
                chunks += record["kind"] == "chunk"
        part.replace(file)
    finally:
        await index.close()
        part.unlink(missing_ok=True)
    return f"{counted(chunks, 'chunk')} written to {str(file)!r}"


async def import_from(file: Path, settings: Settings) -> str:
    """Import an exported file into the index. Returns a summary.

    Raises:
        BadRequest: the file is not a complete export.
        IndexLocked: a worker owns the index.
        IndexMismatch: a collection holds another model's vectors.
        IndexUnavailable: the index cannot be written.
    """
    index = _index(settings)
    try:
        done = await import_knowledge(index, _records(file))
    finally:
        await index.close()
    return f"{counted(done.chunks, 'chunk')} of {counted(done.sources, 'document')} imported"


async def _records(file: Path) -> AsyncIterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise BadRequest(f"line {number} of {str(file)!r} is not a record of an export: {error}") from error


def _index(settings: Settings) -> KnowledgeIndex:
    return open_index(settings.home, qdrant_url=settings.qdrant_url, api_key=settings.qdrant_api_key, timeout=_TIMEOUT)


_COMMANDS: Final[dict[str, Callable[[Path, Settings], Coroutine[Any, Any, str]]]] = {
    "export": export_to,
    "import": import_from,
}


def main() -> int:
    """Run `export FILE` or `import FILE`; returns the exit status."""
    command, file = sys.argv[1:]
    try:
        say(asyncio.run(_COMMANDS[command](Path(file), load_settings())))
    except (SessionfleetError, OSError) as error:
        print_error(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
