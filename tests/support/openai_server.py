"""A server that speaks OpenAI's chat completions over HTTP, slowly, and sees when its caller hangs up."""

from __future__ import annotations

import json
import select
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class OpenAIServer(ThreadingHTTPServer):
    """Answers `SLOW` messages never, all others at once. `asked` and `hung_up` say what happened."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.hung_up: dict[str, float] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """What `OPENAI_BASE_URL` must say."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = body["messages"][-1]["content"]
        self.server.asked.append(message)
        if "SLOW" in message:
            self._wait_for_the_end(message)
        else:
            self._answer(f"you said {message}")

    def _wait_for_the_end(self, message: str) -> None:
        """Nothing more comes from this caller but the end of its connection."""
        readable, _, _ = select.select([self.connection], [], [], 60)
        if readable and not self.connection.recv(1):
            self.server.hung_up[message] = time.time()
        self.close_connection = True

    def _answer(self, text: str) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        answer: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 1, "model": "x"}
        raw = json.dumps({**answer, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""
