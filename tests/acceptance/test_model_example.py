"""The example of replays by model does what its page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import without_settings

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "model_replay"


def test_the_example_prints_what_its_page_shows():
    environ = without_settings(os.environ) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    ran = subprocess.run(
        [sys.executable, "sort_tickets.py"],
        cwd=EXAMPLE,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout in (EXAMPLE / "README.md").read_text("utf-8")
