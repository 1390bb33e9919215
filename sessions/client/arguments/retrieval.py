"""What `Session(memory=...)` and `Session(knowledge=...)` accept, in our own form and in PraisonAI's."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from broker_config.names import LONGEST_BASE, name_problem
from sessions.errors import BadRequest
from sessions.protocol.agent import KnowledgeBases

_COLLECTION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MEMORY_PROVIDERS: Final = ("rag", "redis")
_KNOWLEDGE_PROVIDERS: Final = ("qdrant", "chroma")
_MEMORY_KEYS: Final = {"provider", "use_embedding", "extract", "session_id", "user_id"}
# Other keys of PraisonAI's configurations. How texts are embedded is a setting of the workers.
_IGNORED: Final = {"embedder", "config", "rag_db_path", "short_db", "long_db", "embedding_model", "quality_scoring"}


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Whether agents use the session's memory, and whether facts are extracted from its turns."""

    on: bool = False
    extract: bool = False


@dataclass(frozen=True, slots=True)
class KnowledgeConfig:
    """The knowledge that a session uses, besides its own documents.

    Attributes:
        bases: named knowledge bases that it searches too; documents are added to the first one.
        scope: the scope that documents are added to if there is no base.
        collection: of the index; None for that of the workers' embedding model.
    """

    on: bool = False
    bases: tuple[str, ...] = ()
    scope: Literal["session", "user"] = "session"
    collection: str | None = None


def memory_config(value: object) -> MemoryConfig:
    """Check the argument `memory`.

    Raises:
        BadRequest: it has the wrong type, or an unknown key or provider.
    """
    if isinstance(value, MemoryConfig):
        return value
    if value is None or isinstance(value, bool):
        return MemoryConfig(on=bool(value))
    if not isinstance(value, Mapping):
        raise BadRequest(f'memory={value!r}: use True, False or a dict such as {{"provider": "rag"}}')
    _check_keys("memory", value, _MEMORY_KEYS)
    provider = value.get("provider", "rag")
    if provider not in _MEMORY_PROVIDERS:
        raise BadRequest(
            f"memory provider {provider!r}: use one of {_listed(_MEMORY_PROVIDERS)} (both store memories in Redis)"
        )
    extract = value.get("extract", False)
    if not isinstance(extract, bool):
        raise BadRequest(f"memory extract={extract!r}: use True or False")
    return MemoryConfig(on=True, extract=extract)


def knowledge_config(value: object) -> KnowledgeConfig:
    """Check the argument `knowledge`.

    Raises:
        BadRequest: it has the wrong type, or an unknown key or provider.
    """
    if isinstance(value, KnowledgeConfig):
        return value
    if value is None or isinstance(value, bool):
        return KnowledgeConfig(on=bool(value))
    if isinstance(value, str):
        return KnowledgeConfig(on=True, bases=(base_name(value),))
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return KnowledgeConfig(on=True, bases=tuple(base_name(name) for name in value))
    if not isinstance(value, Mapping):
        raise BadRequest(f"knowledge={value!r}: use True, the name of a knowledge base, or a dict")
    _check_keys("knowledge", value, {"vector_store", "bases", "scope"})
    scope = value.get("scope", "session")
    if scope not in ("session", "user"):
        raise BadRequest(f'knowledge scope {scope!r}: use "session" or "user"')
    bases = value.get("bases", ())
    return KnowledgeConfig(
        on=True,
        bases=tuple(base_name(name) for name in ([bases] if isinstance(bases, str) else bases)),
        scope=scope,
        collection=_collection(value.get("vector_store")),
    )


def bases_to_search(config: KnowledgeConfig, session: KnowledgeConfig) -> KnowledgeBases | Literal[False]:
    """Where an agent searches: in the bases of its session, and in its own. False if it does not search."""
    if not config.on:
        return False
    bases = tuple(dict.fromkeys((*session.bases, *config.bases)))
    return KnowledgeBases(bases=bases, collection=config.collection or session.collection)


def base_name(name: object) -> str:
    """Check the name of a knowledge base.

    Raises:
        BadRequest: it cannot be one.
    """
    if problem := name_problem(name, LONGEST_BASE):
        raise BadRequest(f"knowledge base {name!r}: {problem}")
    return str(name)


def _collection(store: object) -> str | None:
    if store is None:
        return None
    if not isinstance(store, Mapping):
        raise BadRequest(f"vector_store={store!r}: use a dict with `provider` and `config`")
    _check_keys("vector_store", store, {"provider", "config"})
    provider, config = store.get("provider", "qdrant"), store.get("config") or {}
    if provider not in _KNOWLEDGE_PROVIDERS:
        raise BadRequest(f"knowledge provider {provider!r}: use one of {_listed(_KNOWLEDGE_PROVIDERS)}")
    if not isinstance(config, Mapping):
        raise BadRequest(f"config={config!r} of the vector store: use a dict with `collection_name`")
    if provider != "qdrant" or "path" in config:
        _warn(f"knowledge provider {provider!r}: documents are stored in Qdrant, at QDRANT_URL; `path` is ignored")
    name = config.get("collection_name")
    return None if name is None else _collection_name(name)


def _collection_name(name: object) -> str:
    # Stricter than for a base, because it is also the name of a folder of the embedded index.
    if isinstance(name, str) and _COLLECTION.fullmatch(name):
        return name
    raise BadRequest(f"collection_name {name!r}: use 1 to 128 letters, digits and '._-', the first a letter or digit")


def _check_keys(what: str, config: Mapping[str, Any], known: set[str]) -> None:
    for key in config:
        if key in _IGNORED and key not in known:
            _warn(f"{what} key {key!r} is ignored: how texts are embedded is a setting of the workers")
        elif key not in known:
            raise BadRequest(f"{what} has the unknown key {key!r}: use {_listed(sorted(known))}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=5)
