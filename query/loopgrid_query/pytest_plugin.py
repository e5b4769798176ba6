"""Ground truth as parametrised tests: `pytest_plugins = ["loopgrid_query.pytest_plugin"]` in `conftest.py`.

@pytest.mark.loopgrid_ground_truth("refund")
def test_what_people_corrected_comes_out_right(ground_truth_case):
    ground_truth_case.check(refund)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from loopgrid import LoopGrid
from loopgrid.errors import LoopGridError
from loopgrid_query.errors import QueryError
from loopgrid_query.ground_truth import GroundTruthCase, cases

MARK: Final = "loopgrid_ground_truth"
FIXTURE: Final = "ground_truth_case"

_EXAMPLE: Final = f'@pytest.mark.{MARK}("refund")'
_found: Final = pytest.StashKey[dict[str, list[GroundTruthCase]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Makes the mark known."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(decision_type, *, equality, limit, endpoint, allow_empty, **filters): one test for each "
        f"corrected decision; the test takes the fixture {FIXTURE}",
    )
    config.stash[_found] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each corrected decision, named by its id."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None or FIXTURE not in metafunc.fixturenames:
        return
    found = _cases(metafunc.config, mark)
    metafunc.parametrize(FIXTURE, found, ids=[case.decision_id for case in found], indirect=True)


@pytest.fixture
def ground_truth_case(request: pytest.FixtureRequest) -> GroundTruthCase:
    """One corrected decision; the mark says which there are."""
    case = getattr(request, "param", None)
    if not isinstance(case, GroundTruthCase):
        raise pytest.UsageError(f"{FIXTURE} needs a mark that says which decisions: {_EXAMPLE}")
    return case


def _cases(config: pytest.Config, mark: pytest.Mark) -> list[GroundTruthCase]:
    words: dict[str, Any] = dict(mark.kwargs)
    if len(mark.args) > 1:
        raise pytest.UsageError(f"{MARK} takes one argument without a name, the decision type: {_EXAMPLE}")
    if mark.args:
        words["decision_type"] = mark.args[0]
    allow_empty = words.pop("allow_empty", False)
    known = config.stash[_found]
    asked = repr(sorted(words.items()))
    if asked not in known:
        known[asked] = _asked(words)
    if not known[asked] and not allow_empty:
        raise pytest.UsageError(
            f"{MARK}: no corrected decision matches {_written(words)}. A gate of no tests would always be "
            "green: change the filter, or pass allow_empty=True"
        )
    return known[asked]


def _asked(words: Mapping[str, Any]) -> list[GroundTruthCase]:
    filters = dict(words)
    endpoint, rule, limit = (filters.pop(name, None) for name in ("endpoint", "equality", "limit"))
    try:
        with LoopGrid(endpoint=endpoint) as grid:
            return cases(grid, rule=rule, limit=limit, **filters)
    except (LoopGridError, QueryError, TypeError) as error:
        raise pytest.UsageError(f"{MARK}: {error}") from error


def _written(words: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in sorted(words.items())) or "at all"
