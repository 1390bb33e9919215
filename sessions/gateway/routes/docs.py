"""`GET /docs`: the OpenAPI document in a browser.

Swagger UI comes from an installed package: nothing is loaded from other sites.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from sessions.errors import NotFound

router = APIRouter(prefix="/docs", include_in_schema=False)

_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sessionfleet</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="operations"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = """\
SwaggerUIBundle({url: "openapi.json", dom_id: "#operations", deepLinking: true, validatorUrl: null});
"""
_FILES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
# Swagger UI sets styles on its elements and has its icons as data; scripts are only loaded from here.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


@router.get("")
async def docs_page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(
        _PAGE, headers={**_HEADERS, "Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    )


@router.get("/start.js")
async def docs_start() -> Response:
    """The script that starts it; the policy does not allow it inline."""
    return Response(_START, media_type="text/javascript", headers=_HEADERS)


@router.get("/{file}")
async def docs_file(file: str) -> Response:
    """A file of Swagger UI."""
    if file not in _FILES:
        raise NotFound(f"there is no {file!r} here")
    return Response(_swagger_ui(file), media_type=_FILES[file], headers=_HEADERS)


@cache
def _swagger_ui(file: str) -> bytes:
    return (resources.files("fastapi_swagger.resources") / file).read_bytes()
