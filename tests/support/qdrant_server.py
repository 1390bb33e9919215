"""A loopback double of a Qdrant server: answers as configured, and records its requests."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class QdrantServer:
    """Has one collection; `fail` makes the next requests fail first."""

    def __init__(self, *, metadata: dict[str, Any] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.failures: list[Answer] = []
        self.version = "1.17.0"
        self.exists = metadata is not None
        self.metadata = metadata
        self.params: dict[str, Any] = {
            "vectors": {"dense": {"size": 16, "distance": "Cosine"}}, "sparse_vectors": {"bm25": {}},
        }  # fmt: skip
        self.indexed: set[str] = set()
        self.refuse: Callable[[str, dict[str, Any]], bool] = lambda _path, _body: False
        self.rival: Callable[[], None] | None = None
        self.stuck = threading.Event()
        self.stuck.set()
        handler = type("Handler", (_Handler,), {"double": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"{self._scheme}://localhost:{self._server.server_port}"

    def fail(self, *answers: Answer) -> None:
        """Answer the next requests so, before anything else."""
        self.failures += answers

    def requests(self, method: str, ending: str) -> list[dict[str, Any]]:
        """The bodies of requests to a path."""
        return [body for verb, path, body in self.asked if verb == method and path.endswith(ending)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stuck.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        """What a server of one collection says."""
        if path == "/":
            return 200, {"title": "qdrant", "version": self.version}
        if path == "/collections":
            return self._ok({"collections": [{"name": "c"}] if self.exists else []})
        if path == "/collections/c/exists":
            return self._ok({"exists": self.exists})
        if method == "PUT" and path == "/collections/c":
            if self.rival:
                self.rival()
            if self.exists:
                return 409, {"status": {"error": "Wrong input: Collection `c` already exists!"}}
            self.exists, self.metadata = True, body.get("metadata")
            return self._ok(True)
        if not self.exists:
            return 404, {"status": {"error": "Not found: Collection `c` doesn't exist!"}}
        return self._of_the_collection(method, path, body)

    def _of_the_collection(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        if self.refuse(path, body):
            return 400, {"status": {"error": "Wrong input"}}
        done = {"operation_id": 1, "status": "completed"}
        match method, path.removeprefix("/collections/c"):
            case "GET", "":
                return self._ok(_description(self.params, self.metadata, self.indexed))
            case "PUT", "/index":
                self.indexed.add(body["field_name"])
                return self._ok(done)
            case "POST", "/points/scroll":
                return self._ok({"points": [], "next_page_offset": None})
            case "POST", "/points/query/batch":
                return self._ok([{"points": []} for _ in body["searches"]])
            case "POST", "/points/batch":
                return self._ok([done for _ in body["operations"]])
            case "POST", "/points":
                return self._ok([])
            case "POST", "/points/count":
                return self._ok({"count": 1})
            case _:
                return self._ok(done)

    @staticmethod
    def _ok(result: Any) -> Answer:
        return 200, {"result": result, "status": "ok", "time": 0.0}


def _description(params: dict[str, Any], metadata: dict[str, Any] | None, indexed: set[str]) -> dict[str, Any]:
    return {
        "status": "green",
        "optimizer_status": "ok",
        "segments_count": 1,
        "config": {
            "params": params,
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizer_config": {
                "deleted_threshold": 0.2, "vacuum_min_vector_number": 1000, "default_segment_number": 0,
                "flush_interval_sec": 5,
            },
            "metadata": metadata,
        },
        "payload_schema": {field: {"data_type": "keyword", "points": 0} for field in indexed},
    }  # fmt: skip


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that went away are part of some tests."""


class _Handler(BaseHTTPRequestHandler):
    double: QdrantServer
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        path = self.path.partition("?")[0]
        self.double.asked.append((self.command, path, body))
        self.double.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.double.stuck.wait(30)
        answer = self.double.failures.pop(0) if self.double.failures else self.double.answer(self.command, path, body)
        data = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(data)))
        for name, value in answer[2].items() if len(answer) == 3 else ():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def log_message(self, *_: object) -> None:
        """Say nothing."""
