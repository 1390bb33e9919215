"""A process that appends to a conversation through the OpenAI Agents SDK: `appending.py SESSION NAME COUNT FOLDER`.

It begins when three such processes have put a file into the folder, so that they append at the same time.

It prints each number before it appends items with it, so that a test knows what it had begun when it was killed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.fleet import ROOT, Fleet


def killed_at(number: bytes | None, fleet: Fleet, arguments: Sequence[str]) -> int:
    """Run Python with these arguments until it prints this number, and kill -9 it then; None lets it end.

    Returns:
        The last number that it printed.
    """
    environment = {"REDIS_URL": fleet.server.url, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-W", "ignore", *arguments]
    printed = b"0"
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed = line.strip() or printed
            if printed == number:
                process.kill()
    assert number is not None or process.returncode == 0
    return int(printed)


def meet(folder: Path, name: str) -> None:
    """Wait until three processes are here."""
    (folder / name).touch()
    while len(list(folder.iterdir())) < 3:
        time.sleep(0.001)


async def append(session: Any, name: str, count: int) -> None:
    """Append one exchange after the other: the question in one call, and what came of it in another."""
    for number in range(count):
        print(number, flush=True)
        await session.add_items([{"role": "user", "content": f"{name} asks {number}"}])
        await session.add_items(
            [
                {"type": "function_call", "call_id": f"{name}{number}", "name": "look_up", "arguments": "{}"},
                {"type": "function_call_output", "call_id": f"{name}{number}", "output": f"{name} {number}"},
            ]
        )


def main(session_id: str, name: str, count: int, folder: Path) -> None:
    """Connect, wait for the others, append."""
    from sessions.adapters.openai_agents import FleetSession

    session = FleetSession(session_id)
    asyncio.run(session.get_items())
    meet(folder, name)
    asyncio.run(append(session, name, count))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
