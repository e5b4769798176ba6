"""The example of an experiment goes the way from a wrong decision to a gate, as its page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import without_settings

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "experiment"


def test_the_example_prints_what_its_page_shows():
    environ = without_settings(os.environ) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    ran = subprocess.run(
        [sys.executable, "improve.py"], cwd=EXAMPLE, env=environ, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    page = (EXAMPLE / "README.md").read_text("utf-8")
    function, model = ran.stdout.split("== The server asks the model again ==\n")
    assert function.rstrip() in page
    assert "verdict: fixed" in model
    assert model[model.index("$ loopgrid check") :].rstrip() in page
