"""Names that others rely on: they change on purpose or not at all.

After a change made on purpose: `python -m tests.support.generated`, and read the difference.
"""

from __future__ import annotations

import duckdb
import pytest

from loopgrid import schema
from tests.support import generated


@pytest.mark.parametrize(
    ("path", "name", "generate"),
    [pytest.param(*section, id=f"{section[0].stem}-{section[1]}") for section in generated.SECTIONS],
)
def test_the_specification_says_what_the_code_says(path, name, generate):
    assert generated.section(path.read_text("utf-8"), name) == generate()


def test_public_names_and_view_columns_are_those_of_the_snapshot():
    now = generated.public_names().splitlines()
    snapshot = generated.PUBLIC_NAMES.read_text("utf-8").splitlines()

    assert {"new": sorted(set(now) - set(snapshot)), "gone": sorted(set(snapshot) - set(now))} == {
        "new": [],
        "gone": [],
    }
    assert now == snapshot, "the order changed"


def test_the_view_decisions_shows_the_decision_record_in_name_order_and_type():
    shown = [(column, kind) for view, column, kind in generated.view_columns() if view == "decisions"]

    assert shown == [(field.column, _spelled_by_duckdb(field.sql_type)) for field in schema.FIELDS]


def test_every_public_view_of_the_design_exists():
    views = {view for view, _, _ in generated.view_columns()}

    assert views == {
        "commits", "conflicts", "corrections", "decisions", "events", "experiments", "ground_truth", "marks",
        "producers", "quarantine", "replays", "spans", "steps", "unfinished",
        # Beyond the design: what the evidence leaves open, and what senders say about their decisions.
        "aggregates", "evaluations", "possible_duplicates", "prices", "costs",
        # What people say beside marks and corrections, the truth under other policies, and what became of it.
        "ground_truth_adjudicated", "ground_truth_majority", "judgements", "outcomes",
        # What keeps decisions from being replayed exactly.
        "replayability",
        # Who may do what, and who did.
        "access_log", "keys",
        # Whom people are asked about, and what they answered.
        "review_answers", "review_items", "reviews",
        # What experiments replay, and what became of it.
        "cohort_decisions", "cohorts", "experiment_items", "schedules",
    }  # fmt: skip


def test_paths_of_the_decision_record_do_not_collide():
    paths = [field.path for field in schema.FIELDS]

    assert len(set(paths)) == len(paths)
    assert not {path.partition(".")[0] for path in paths if "." in path} & set(paths)


def _spelled_by_duckdb(sql_type: str) -> str:
    with duckdb.connect() as connection:
        row = connection.execute(f"SELECT typeof(CAST(NULL AS {sql_type}))").fetchone()
    assert row is not None
    return str(row[0])
