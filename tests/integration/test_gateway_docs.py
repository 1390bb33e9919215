"""The gateway's documentation in a browser: it loads nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, browser
from tests.support.gateway import GatewayProcess
from tests.support.http import problem


def test_the_page_names_files_of_the_gateway_only(gateway_process: GatewayProcess) -> None:
    """All files exist, and the policy lets nothing else be loaded."""
    with gateway_process.client() as http:
        page = http.get("/docs")
        assert page.status_code == 200
        assert "script-src 'self';" in page.headers["content-security-policy"]
        files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert sorted(files) == ["docs/start.js", "docs/swagger-ui-bundle.js", "docs/swagger-ui.css"]
        for file in files:
            assert http.get(f"/{file}").headers["content-type"].startswith(("text/javascript", "text/css"))
        problem(http.get("/docs/other.js"), 404)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; see `make browser`")
def test_a_browser_shows_every_operation(gateway_process: GatewayProcess, tmp_path: Path) -> None:
    """The page's scripts run without an error under its content security policy."""
    with gateway_process.client() as http:
        paths = http.get("/openapi.json").json()["paths"]
    with browser(tmp_path) as started, started.page() as page:
        page.open(f"{gateway_process.url}/docs")
        page.until(f"document.querySelectorAll('.opblock').length === {sum(map(len, paths.values()))}")
        assert page.complaints == []
