"""The command on an install without the server extra."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_one_sentence_says_which_extra_to_install(missing):
    program = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['loopgrid', '--help'];"
        "from loopgrid_query.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "install it with its server extra (README, “Install”)" in ended.stderr
    assert "pip install" not in ended.stderr, "the package index has another loopgrid"
    assert len(ended.stderr.splitlines()) == 1
