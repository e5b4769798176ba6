"""What the list says people think of a decision."""

from __future__ import annotations

import pytest

from loopgrid_query.cli.decisions import judged


@pytest.mark.parametrize(
    ("incorrect", "corrected", "said"),
    [
        (False, False, ""),
        (True, False, "incorrect"),
        (False, True, "corrected"),
        (True, True, "incorrect, corrected"),
    ],
)
def test_marks_and_corrections_are_both_told(incorrect, corrected, said):
    assert judged({"incorrect": incorrect, "corrected": corrected}).plain == said
