"""The web examples, each under its real server in a separate process, and visitors who drive them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet
from tests.support.servers import free_port
from tests.support.sse import Item, text_of
from tests.support.waiting import PROGRAM_START, wait_until

EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Kind:
    """An example and how it is served; `wrapped` is the application that `preforked` loads."""

    folder: str
    command: tuple[str, ...]
    wrapped: str = ""


GUNICORN = ("gunicorn", "-c", "gunicorn.conf.py", "--bind", "127.0.0.1:{port}", "--no-control-socket")
UVICORN = ("uvicorn", "--port", "{port}", "--timeout-graceful-shutdown", "1")
KINDS = {
    "fastapi": Kind("web_fastapi", (*UVICORN, "app:app")),
    "fastapi-gunicorn": Kind("web_fastapi", (*GUNICORN, "tests.support.preforked:asgi"), "app:app"),
    "flask-gunicorn": Kind("web_flask", (*GUNICORN, "tests.support.preforked:wsgi"), "app:app"),
    "django-gunicorn": Kind("web_django", (*GUNICORN, "tests.support.preforked:wsgi"), "chat.wsgi:application"),
    "django-asgi": Kind("web_django", (*UVICORN, "chat.asgi:application")),
}

# As a developer tries them out, on the development servers of their frameworks.
TRIALS = {
    "fastapi": KINDS["fastapi"],
    "flask": Kind("web_flask", ("flask", "run", "--port", "{port}")),
    "django": Kind("web_django", ("manage", "runserver", "--noreload", "{port}")),
}


@dataclass
class Stream:
    """A response of server-sent events, and what came of it."""

    status: int
    headers: dict[str, str]
    items: list[Item] = field(default_factory=list)
    comments: int = 0

    @property
    def text(self) -> str:
        """The streamed text as a page shows it."""
        return text_of(self.items)


def parse(lines: Iterator[str]) -> Iterator[Item | str]:
    """Items and comments of a stream's lines; what is cut off in the middle is none, as in a browser."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            yield line
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Item(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


class Visitor:
    """A browser: it has its own cookies, and follows streams."""

    def __init__(self, site: Site) -> None:
        self.http = httpx.Client(base_url=site.url, timeout=40, headers={"Connection": "close"})
        self.http.get("/").raise_for_status()

    def post(self, path: str, value: Any = None, **headers: str) -> httpx.Response:
        """POST JSON, with Django's token if there is one."""
        if token := self.http.cookies.get("csrftoken"):
            headers["X-CSRFToken"] = token
        return self.http.post(path, json=value, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def say(self, chat: str, message: str, **headers: str) -> str:
        """Post a message; the path of its turn."""
        response = self.post(f"/chats/{chat}/messages", {"message": message}, **headers)
        assert response.status_code == 202, response.text
        return response.headers["Location"]

    def get(self, path: str) -> httpx.Response:
        """GET."""
        return self.http.get(path)

    def follow(self, path: str, after: str | None = None, *, until: str = "ended", name: str = "events") -> Stream:
        """Read the events of a turn, or a chat's stream, after a cursor: to its end or to the first event of a type."""
        headers = {"Last-Event-ID": after} if after else {}
        with self.http.stream("GET", f"{path}/{name}", headers=headers) as response:
            stream = Stream(response.status_code, dict(response.headers))
            for item in parse(response.iter_lines()):
                if isinstance(item, str):
                    stream.comments += 1
                    continue
                stream.items.append(item)
                if item.type == until and until != "ended":
                    break
        return stream


class Site:
    """One example's server."""

    def __init__(self, kind: Kind, fleet: Fleet, log: Path, *, port: int | None = None, **env: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        with log.open("wb") as out:
            self._process = self._start(kind, fleet, out, env)

    def _start(self, kind: Kind, fleet: Fleet, out: BinaryIO, env: dict[str, str]) -> preloaded.Program:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
        folder = EXAMPLES / kind.folder
        return preloaded.start(
            [sys.executable, "-m", *(part.format(port=self.port) for part in kind.command)],
            env={
                **kept,
                "REDIS_URL": fleet.server.url,
                "SECRET_KEY": "a secret of this test",
                "CHAT_TOOLS": "look_up linger",
                "TRUSTED_ORIGINS": "https://chat.example",
                "SESSIONFLEET_MESSAGE_LIMIT_BYTES": "10000",
                **({"WEBHOOK_URL": f"{self.url}/webhooks"} if "WEBHOOK_SECRET" in env else {}),
                "SF_TEST_APP": kind.wrapped,
                "PYTHONPATH": os.pathsep.join((str(ROOT), str(folder))),
                **env,
            },
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )

    def ready(self) -> Site:
        """Wait until it serves."""
        wait_until(self._answers, description=f"the site on {self.url} answers", timeout=PROGRAM_START)
        return self

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.url).status_code == 200
        return False

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """kill -9, as a crash does; for servers of one process."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it with its children, which gunicorn stops."""
        if self._process.poll() is not None:
            return
        os.kill(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
