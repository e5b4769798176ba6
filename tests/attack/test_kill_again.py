"""A few rounds of `python -m tests.attack.kill`, so that the attack itself stays true."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.kill import Attack

pytestmark = [pytest.mark.crash, pytest.mark.slow]

ROUNDS = 3


@pytest.mark.parametrize("seed", [7])
def test_a_server_killed_again_and_again_loses_doubles_and_invents_nothing(tmp_path: Path, seed: int) -> None:
    attack = Attack(tmp_path, seed)

    for _ in range(ROUNDS):
        attack.round()
    attack.finish()

    assert attack.book.acknowledged == attack.book.sent
    assert attack.book.sent["traces"]
