"""A web server with a few pages, from which workers fetch files."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Page:
    """What the server sends for a path."""

    body: bytes
    content_type: str


@dataclass
class Pages:
    """A running server, and the paths that it was asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(pages: Mapping[str, Page]) -> Iterator[Pages]:
    """A server with these pages."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path)
            site.asked.append(self.path)
            self.send_response(404 if found is None else 200)
            if found is not None:
                self.send_header("Content-Type", found.content_type)
            self.send_header("Content-Length", str(len(found.body) if found else 0))
            self.end_headers()
            self.wfile.write(found.body if found else b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Pages(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
