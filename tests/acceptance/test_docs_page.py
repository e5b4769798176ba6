"""`/docs` in a real browser: it draws the API, with a key and without, and asks nobody but the server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.server import running_server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


def drawn(address: str, folder: Path) -> str:
    """The page as the browser has it once its scripts have run; only this machine's names resolve for it."""
    return subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=20000"),
            *("--dump-dom", address),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    ).stdout


@pytest.mark.parametrize("keys", [False, True], ids=["without keys", "with keys"])
def test_the_documentation_is_drawn_in_a_browser_without_the_internet(tmp_path, keys):
    with running_server(tmp_path) as server:
        if keys:
            body = {"name": "first", "scopes": ["admin"]}
            assert httpx.post(f"{server.api}/v1/keys", json=body).status_code == 201
            assert httpx.get(f"{server.api}/v1/decisions").status_code == 401
        seen = drawn(f"{server.api}/docs", tmp_path)

    for text in ("Record a decision", "Get many decisions", "Make a review queue", "btn authorize"):
        assert text in seen, seen[:3000]
    assert "Failed to load API definition" not in seen
