"""A process that appends to a conversation through the OpenAI Agents SDK: `appending.py SESSION NAME COUNT`.

It prints each number before it appends three items with it, so that a test knows what it had begun when it was killed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

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


async def main(session_id: str, name: str, count: int) -> None:
    """Append one exchange after the other, each in one call."""
    from sessions.adapters.openai_agents import FleetSession

    session = FleetSession(session_id)
    for number in range(count):
        print(number, flush=True)
        await session.add_items(
            [
                {"role": "user", "content": f"{name} asks {number}"},
                {"type": "function_call", "call_id": f"{name}{number}", "name": "look_up", "arguments": "{}"},
                {"type": "function_call_output", "call_id": f"{name}{number}", "output": f"{name} {number}"},
            ]
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
