"""The checks of memory and knowledge: which workers serve them, where the index is, which model embeds."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from broker_config.redis_clients import async_store
from broker_config.settings import RETRIEVAL, Settings
from sessions.cli.verdicts import PROVIDER_KEYS, Check, Verdict
from sessions.fleet.process import missing_for_retrieval
from sessions.store.activity import Activity
from sessions.store.keys import INDEX
from sessions.store.scripts import store_error

_QDRANT_PORT: Final = 6333
_OLDEST: Final = (1, 16)
"""The first Qdrant whose collections have metadata, which say that a collection is ours."""
_INSTALL: Final = "run `pip install 'sessionfleet[worker,documents]'`"


async def retrieval_checks(settings: Settings, seen: Activity) -> list[Check]:
    """All of them.

    Raises:
        BackendError: the store did not answer.
    """
    return [_served(seen), await _index(settings, seen), _embedding(settings), _extra(seen)]


def _served(seen: Activity) -> Check:
    serving = [worker.id for worker in seen.workers if RETRIEVAL in worker.queues]
    if serving:
        return Check("retrieval", Verdict.OK, f"served by {', '.join(serving)}")
    if not seen.workers:
        return Check(
            "retrieval", Verdict.WARNING, "no worker serves it", "it comes with the workers of `sessionfleet up`"
        )
    advice = "run `sessionfleet worker --role retrieval`; until then searches wait, and turns continue without memory"
    return Check("retrieval", Verdict.WARNING, "no worker serves it: no memory search, no documents", advice)


async def _index(settings: Settings, seen: Activity) -> Check:
    if settings.qdrant_url is not None:
        return await asyncio.to_thread(_qdrant, settings.qdrant_url, settings.qdrant_api_key, settings.connect_timeout)
    client = async_store(settings, name="sessionfleet-doctor")
    try:
        home = await client.get(INDEX)
    except Exception as error:
        raise store_error(error) from error
    finally:
        await client.aclose()
    return _embedded(None if home is None else home.decode(), seen)


def _embedded(home: str | None, seen: Activity) -> Check:
    if home is None:
        return Check("index", Verdict.OK, "embedded, not opened yet")
    says = f"embedded, home {home[:8]}"
    hosts = sorted({worker.host for worker in seen.workers})
    if len(hosts) > 1:
        advice = "one process on one machine owns all documents: set QDRANT_URL so that the workers share a server"
        return Check("index", Verdict.WARNING, f"{says}, but workers run on {len(hosts)} machines", advice)
    return Check("index", Verdict.OK, says)


def _qdrant(url: str, key: str | None, timeout: float) -> Check:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Check("index", Verdict.BROKEN, "QDRANT_URL is not a URL", "it should look like http://localhost:6333")
    base = f"{parts.scheme}://{_host(parts.hostname)}:{parts.port or _QDRANT_PORT}{parts.path.rstrip('/')}"
    try:
        version = str(_get(f"{base}/", key, timeout).get("version", ""))
        _get(f"{base}/collections", key, timeout)
        may_create = key is None or _may_create(base, key, timeout)
    except urllib.error.HTTPError as error:
        return _refused(base, error.code, key)
    except (OSError, HTTPException, ValueError, AttributeError) as error:
        advice = (
            "check that it is running and that QDRANT_URL is right, http or https included; until it answers, document "
            "searches fail, while memory works"
        )
        return Check("index", Verdict.BROKEN, f"Qdrant at {base} does not answer: {error}", advice)
    says = f"Qdrant {version} at {base}, " + ("key accepted" if key else "no key required")
    if _numbers(version) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return Check("index", Verdict.BROKEN, says, f"documents need Qdrant {oldest} or newer")
    if not may_create:
        advice = "documents cannot be added with it, unless their collections exist: set QDRANT_API_KEY to another key"
        return Check("index", Verdict.WARNING, f"{says}, but it may not create collections", advice)
    if key is not None and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return Check("index", Verdict.WARNING, says, "the key crosses the network unencrypted: use https")
    return Check("index", Verdict.OK, says)


def _refused(base: str, status: int, key: str | None) -> Check:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        says = "refuses the key" if key else "requires a key"
        return Check("index", Verdict.BROKEN, f"Qdrant at {base} {says}", "set QDRANT_API_KEY to the server's key")
    return Check("index", Verdict.BROKEN, f"Qdrant at {base} answers {status}", "see its log")


def _get(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    headers = {"api-key": key} if key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was checked
    with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
    return answer


def _may_create(base: str, key: str, timeout: float) -> bool:
    """Whether the server lets the key change collections: asked with a list of changes that is empty."""
    headers = {"api-key": key, "Content-Type": "application/json"}
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        f"{base}/collections/aliases", data=b'{"actions": []}', headers=headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return error.code != HTTPStatus.FORBIDDEN


def _host(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _embedding(settings: Settings) -> Check:
    name = settings.embedding_model
    if name is None or name == "minilm":
        return Check("embedding", Verdict.OK, "minilm, the built-in model")
    says = f"{name}, as set here; the SESSIONFLEET_EMBEDDING_MODEL of the retrieval workers is what counts"
    key = PROVIDER_KEYS.get(name.partition(":")[0])
    if key is None or os.environ.get(key) or (key == "OPENAI_API_KEY" and os.environ.get("OPENAI_BASE_URL")):
        return Check("embedding", Verdict.OK, says)
    return Check("embedding", Verdict.WARNING, says, f"{key} is not set here; the retrieval workers need it")


def _extra(seen: Activity) -> Check:
    missing = missing_for_retrieval()
    if missing is None:
        return Check("documents", Verdict.OK, "the extra is installed here")
    needed = importlib.util.find_spec("pydantic_ai") is not None and not any(
        RETRIEVAL in worker.queues for worker in seen.workers
    )
    says = f"{missing} is not installed here: this machine cannot serve retrieval"
    return Check("documents", Verdict.WARNING if needed else Verdict.OK, says, _INSTALL if needed else "")
