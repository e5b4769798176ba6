"""What came out of an experiment: each decision in each arm, and the whole in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from loopgrid_query.compare import Equality
from loopgrid_query.compare import equality as equalities
from loopgrid_query.decisions import Decisions
from loopgrid_query.errors import FieldError, Malformed
from loopgrid_query.experiments.cohorts import Cohorts, page_start
from loopgrid_query.experiments.experiments import Experiments
from loopgrid_query.experiments.state import CHANGE, CONTROL, Wanted, items_of
from loopgrid_query.nearest import did_you_mean, nearest
from loopgrid_query.queries import Reader, Row
from loopgrid_query.records import Record, decision_record, entry_record, parsed
from loopgrid_query.replay import gate
from loopgrid_query.replay.statistics import item_of, statistics
from loopgrid_query.report_models import GateReport, Item, ItemOutcome

_AT_ONCE: Final = 200
"""Items held in memory with their content at once."""
_NOT_ASKED: Final = {
    "status": "pending",
    "reason": "The experiment has not asked for it yet.",
    "replay_id": None,
}


class Results:
    """The results of the experiments of one ledger."""

    def __init__(
        self, reader: Reader, decisions: Decisions, cohorts: Cohorts, experiments: Experiments
    ) -> None:
        self._reader = reader
        self._decisions = decisions
        self._cohorts = cohorts
        self._experiments = experiments

    def items(
        self, experiment_id: str, arm: str | None, outcome: str | None, limit: int, cursor: str | None
    ) -> Record:
        """A page of items with their verdicts, by what people say is right now.

        Args:
            experiment_id: the experiment.
            arm: only ``change`` or ``control``.
            outcome: only one of ``ItemOutcome``.
            limit: items on a page.
            cursor: ``next_cursor`` of the page before.

        Raises:
            NotFound: there is no such experiment.
            Malformed: an argument cannot be meant.
        """
        _one_of("arm", arm, (CHANGE, CONTROL))
        _one_of("outcome", outcome, tuple(ItemOutcome))
        body, wanted = self._wanted(experiment_id)
        start = page_start(cursor, len(wanted))
        shown: list[Record] = []
        following: int | None = None
        for place, item, found in self._judged(experiment_id, body, wanted, start, arm):
            if outcome is not None and found.outcome != outcome:
                continue
            if len(shown) == limit:
                following = place
                break
            shown.append({**found.model_dump(mode="json"), **item})
        return {"items": shown, "next_cursor": None if following is None else str(following)}

    def report(self, experiment_id: str, rule: str | None, title: str | None) -> GateReport:
        """An experiment in numbers, held against a rule.

        Raises:
            NotFound: there is no such experiment.
            RuleInvalid: the rule cannot be read.
            NotInstalled: the statistics libraries are not here.
        """
        parsed_rule = None if rule is None else gate.parse(rule)
        body, wanted = self._wanted(experiment_id)
        arms: dict[str, list[Item]] = {CHANGE: [], CONTROL: []}
        for _, item, found in self._judged(experiment_id, body, wanted, 0, None):
            arms[item["arm"]].append(found)
        control = arms[CONTROL] or None
        numbers = statistics(arms[CHANGE], control)
        experiment = self._experiments.get(experiment_id)
        if experiment["status"] != "completed":
            left = experiment["progress"]["items"] - experiment["progress"]["completed"]
            numbers.notes.append(
                f"The experiment is {experiment['status']}: {left} items have not completed."
            )
        return GateReport(
            title=title or experiment["name"] or f"experiment {experiment_id}",
            overrides=body["overrides"],
            equality=body["equality"],
            gate=None if parsed_rule is None else gate.evaluate(parsed_rule, numbers),
            statistics=numbers,
            items=arms[CHANGE],
            control=control,
        )

    def _wanted(self, experiment_id: str) -> tuple[Mapping[str, Any], Sequence[Wanted]]:
        body = parsed(self._experiments.row(experiment_id)["body"])
        members = self._cohorts.members(body["cohort_id"])
        return body, items_of(experiment_id, members, body["control_share"])

    def _judged(
        self,
        experiment_id: str,
        body: Mapping[str, Any],
        wanted: Sequence[Wanted],
        start: int,
        arm: str | None,
    ) -> Iterator[tuple[int, Record, Item]]:
        """Items from a place on: the place, what is told beside the verdict, and the verdict."""
        equality = equalities.parse(body["equality"])
        asked = {
            row["replay_id"]: row
            for row in self._reader.rows("experiment_items", {"experiment_id": experiment_id})
        }
        for first in range(start, len(wanted), _AT_ONCE):
            batch = [
                (place, item)
                for place, item in enumerate(wanted[first : first + _AT_ONCE], first)
                if arm in (None, item.arm)
            ]
            yield from self._batch(batch, asked, equality, body["policy"])

    def _batch(
        self,
        batch: Sequence[tuple[int, Wanted]],
        asked: Mapping[str, Row],
        equality: Equality,
        policy: str,
    ) -> Iterator[tuple[int, Record, Item]]:
        rows = {item.replay_id: asked.get(item.replay_id) for _, item in batch}
        results = {row["result_decision_id"] for row in rows.values() if row and row["result_decision_id"]}
        decisions, nulls = self._read({item.decision_id for _, item in batch} | results)
        truths = self._truths([item.decision_id for _, item in batch], policy)
        for place, item in batch:
            row = rows[item.replay_id]
            replay = row or _NOT_ASKED
            decision = decisions[item.decision_id] | {"ground_truth": truths.get(item.decision_id)}
            result = decisions.get(row["result_decision_id"]) if row else None
            found = item_of(decision, replay, result, equality=equality, nulls=nulls)
            yield place, {"arm": item.arm, "status": row["status"] if row else None}, found

    def _read(self, decision_ids: set[str]) -> tuple[dict[str, Record], set[str]]:
        """Decisions by id, and those of them whose output on record is null."""
        found: dict[str, Record] = {}
        nulls: set[str] = set()
        asked = sorted(decision_ids)
        for start in range(0, len(asked), _AT_ONCE):
            rows = self._decisions.originals(asked[start : start + _AT_ONCE])
            found |= {each: decision_record(row, parsed) for each, row in rows.items()}
            nulls |= {
                each
                for each, row in rows.items()
                if row["output"] is not None and found[each]["output"] is None
            }
        return found, nulls

    def _truths(self, decision_ids: Sequence[str], policy: str) -> dict[str, Record]:
        rows = self._reader.rows("truths_by_policy", {"decision_ids": decision_ids, "policy": policy})
        return {row["decision_id"]: entry_record(row, parsed) for row in rows}


def _one_of(name: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        message = f"there is no {name} {value!r}; {did_you_mean(value, known)}"
        raise Malformed.of([FieldError(name, message, nearest(value, known))])
