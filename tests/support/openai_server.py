"""A server that speaks OpenAI's chat completions over HTTP, slowly, and sees when its caller disconnects.

It also answers, without delay, in the forms of OpenAI's responses and of Gemini.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import selectors
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_USAGE = {"prompt_tokens": 3, "total_tokens": 5}


class OpenAIServer(ThreadingHTTPServer):
    """Never answers messages with `SLOW`, and all others immediately. `asked` and `hung_up` record what happened.

    `requests` has the bodies of what was asked. Messages may be `HANG word`, too, as texts to embed.

    Texts to embed are commands: `SLOW`, `STATUS 503`, `FEWER` (a vector is missing), `ZERO`, `WIDER`, `HANG word` (not
    answered the first time that this word occurs, and disconnected once the word is in `let_go`), `POISON` (`on_poison`
    is called, and there is no answer), `INSTEAD` (answered with `instead`, a content type and a body). While `down` is
    set, every response is a 503.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.hung_up: dict[str, float] = {}
        self.embedded: list[list[str]] = []
        self.hung: set[str] = set()
        self.let_go: set[str] = set()
        self.down = False
        self.instead = ("text/html", b"<html>Sign in</html>")
        self.on_poison: Callable[[], None] = lambda: None
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """What `OPENAI_BASE_URL` must say."""
        return f"http://127.0.0.1:{self.server_port}/v1"


def fake_vector(text: str) -> list[float]:
    """Of length 2, another for each text, of 8 numbers, or 9 for `WIDER`."""
    if text == "ZERO":
        return [0.0] * 8
    values = [float(byte) for byte in hashlib.sha256(text.encode()).digest()[: 9 if text == "WIDER" else 8]]
    return [2 * value / math.hypot(*values) for value in values]


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/embeddings"):
            self._embed(body)
            return
        if self.path.endswith("/responses"):
            self._answer_as_response(f"you said {body['input'][-1]['content']}")
            return
        if self.path.endswith(":generateContent"):
            self._answer_as_gemini(f"you said {body['contents'][-1]['parts'][-1]['text']}")
            return
        message = body["messages"][-1]["content"]
        self.server.asked.append(message)
        self.server.requests.append(body)
        hang = re.search(r"HANG (\w+)", message)
        if self.server.down:
            self._send(503, {"error": {"message": "down for now", "type": "x", "code": None}})
        elif "INSTEAD" in message:
            self._send_raw(200, self.server.instead)
        elif "SLOW" in message:
            self._wait_for_the_end(message)
        elif hang and hang[1] not in self.server.hung:
            self.server.hung.add(hang[1])
            self._wait_for_the_end(message, hang[1])
        else:
            self._answer(f"you said {message}")

    def _embed(self, body: dict[str, Any]) -> None:
        texts = body["input"]
        self.server.embedded.append(texts)
        said = " ".join(texts)
        hang = re.search(r"HANG (\w+)", said)
        if self.server.down:
            self._send(503, {"error": {"message": "down for now", "type": "x", "code": None}})
        elif "POISON" in said:
            self.server.on_poison()
            self._wait_for_the_end(said)
        elif "SLOW" in said:
            self._wait_for_the_end(said)
        elif hang and hang[1] not in self.server.hung:
            self.server.hung.add(hang[1])
            self._wait_for_the_end(said, hang[1])
        elif "INSTEAD" in said:
            self._send_raw(200, self.server.instead)
        elif found := re.search(r"STATUS (\d+)", said):
            self._send(int(found[1]), {"error": {"message": "so it was asked", "type": "x", "code": None}})
        else:
            vectors = [fake_vector(text) for text in texts if text != "FEWER"]
            packed = body.get("encoding_format") == "base64"
            data = [{"object": "embedding", "index": n, "embedding": v} for n, v in enumerate(vectors)]
            for item in data if packed else ():
                item["embedding"] = base64.b64encode(
                    struct.pack(f"<{len(item['embedding'])}f", *item["embedding"])
                ).decode()
            self._send(200, {"object": "list", "model": body["model"], "data": data, "usage": _USAGE})

    def _wait_for_the_end(self, message: str, word: str = "") -> None:
        """Nothing more comes from this caller but the end of its connection."""
        until, readable = time.monotonic() + 60, []
        with selectors.DefaultSelector() as selector:  # `select` accepts no descriptor beyond 1,023
            selector.register(self.connection, selectors.EVENT_READ)
            while not readable and word not in self.server.let_go and time.monotonic() < until:
                readable = selector.select(0.2 if word else 60)
        if readable and not self.connection.recv(1):
            self.server.hung_up[message] = time.time()
        self.close_connection = True

    def _answer(self, text: str) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 1, "model": "x"}
        self._send(200, {**answer, "choices": [choice], "usage": {**_USAGE, "completion_tokens": 2}})

    def _answer_as_response(self, text: str) -> None:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, **details}
        options = {"parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
        answer = {"id": "x", "object": "response", "created_at": 1, "model": "x", "status": "completed"}
        self._send(200, {**answer, **options, "output": [message], "usage": usage})

    def _answer_as_gemini(self, text: str) -> None:
        content = {"role": "model", "parts": [{"text": text}]}
        self._send(200, {"candidates": [{"content": content, "finishReason": "STOP"}]})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        self._send_raw(status, ("application/json", json.dumps(answer).encode()))

    def _send_raw(self, status: int, answer: tuple[str, bytes]) -> None:
        content_type, raw = answer
        self.send_response(status)
        self.send_header("x-should-retry", "false")  # to OpenAI's client, which would take its time
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""
