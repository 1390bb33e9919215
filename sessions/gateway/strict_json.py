"""JSON as the gateway reads and writes it: only valid JSON, and only values that it could write again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, NoReturn

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict

DEEPEST: Final = 100
"""Levels of lists and objects in a body: serializers have their own limits, and fail there."""
_TOO_DEEP: Final = f"more than {DEEPEST} levels of lists and objects"
_LONGEST: Final = 4300
"""Digits of an integer; Python parses and prints no more."""


class Body(BaseModel):
    """The contents of a request: no unknown fields, and no value accepted as another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Lenient(BaseModel):
    """A part of a request of another protocol, which clients echo: fields that are not known are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""An integer; JSON does not distinguish 5.0 from 5."""


def parse_json(raw: bytes) -> Any:
    """The value of a body.

    Raises:
        json.JSONDecodeError: it is not JSON (NaN and numbers that are too large for a float are not), an object has a
            duplicate key, or it is nested too deeply.
    """
    try:
        value = json.loads(
            raw, parse_constant=_refused, parse_float=_finite, parse_int=_whole_number, object_pairs_hook=_object
        )
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise json.JSONDecodeError("it is not UTF-8", "", 0) from None
    except RecursionError:
        raise json.JSONDecodeError(_TOO_DEEP, "", 0) from None
    except ValueError as error:  # one of the four below
        raise json.JSONDecodeError(str(error), "", 0) from None
    if raw.count(b"[") + raw.count(b"{") > DEEPEST and _deeper(value, DEEPEST):
        raise json.JSONDecodeError(_TOO_DEEP, "", 0)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers disagree on which of two values counts: a check in front of the gateway may have seen the other."""
    read: dict[str, Any] = {}
    for key, value in pairs:
        if key in read:
            raise ValueError(f"the key {key[:100]!r} occurs twice in one object")
        read[key] = value
    return read


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _whole_number(text: str) -> int:
    if len(text.lstrip("-")) > _LONGEST:
        raise ValueError(f"{text[:40]}... is too large a number: it has more than {_LONGEST} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for one in layer
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not layer:
            return False
    return any(isinstance(one, dict | list) for one in layer)


class StrictRequest(Request):
    """A request whose JSON is parsed by `parse_json`."""

    async def json(self) -> Any:
        """Its body."""
        return parse_json(await self.body())


class StrictRoute(APIRoute):
    """A route whose requests are strict."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with a strict request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict


def written(content: Any) -> str:
    """A value as JSON that every client can read.

    Half of a surrogate pair, which UTF-8 cannot encode, is escaped. NaN and infinity (a model may have called a tool
    with them) become null.
    """
    for ascii_only in (False, True):
        try:
            text = json.dumps(content, ensure_ascii=ascii_only, allow_nan=False, separators=(",", ":"))
            text.encode()
        except UnicodeEncodeError:
            continue
        except ValueError:
            return written(_numbers_only(content))
        return text
    raise AssertionError("ASCII has an encoding")


def _numbers_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers_only(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers_only(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Json(JSONResponse):
    """JSON as people read it."""

    def render(self, content: Any) -> bytes:
        """Its bytes."""
        return written(content).encode()
