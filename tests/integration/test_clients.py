"""Both clients against a real server: retried writes are done once, replays run from a coroutine."""

from __future__ import annotations

import asyncio

import pytest

import loopgrid
from loopgrid import AsyncLoopGrid, LoopGrid, errors

pytestmark = pytest.mark.integration


@loopgrid.decision("shout")
async def shout(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


def test_a_mark_and_a_correction_sent_again_with_their_key_are_the_same_entry(server):
    with LoopGrid(endpoint=server.api) as grid:
        decision_id = grid.record_decision(decision_type="reply", output="a").decision_id
        other_id = grid.record_decision(decision_type="reply", output="a").decision_id
        marks = [grid.mark_incorrect(decision_id, reason="x", idempotency_key="k") for _ in range(2)]
        corrections = [
            grid.attach_correction(
                decision_id, correction={"r": [1.5]}, corrected_by="me", idempotency_key="k"
            )
            for _ in range(2)
        ]
        elsewhere = grid.mark_incorrect(other_id, reason="x", idempotency_key="k")
        with pytest.raises(
            errors.Conflict, match=f"stands for mark {marks[0].mark_id}, which has another reason"
        ):
            grid.mark_incorrect(decision_id, reason="y", idempotency_key="k")
        with pytest.raises(errors.Conflict, match="which has another output"):
            grid.attach_correction(decision_id, correction=2, corrected_by="me", idempotency_key="k")
        with pytest.raises(errors.Invalid, match="Idempotency-Key"):
            grid.mark_incorrect(decision_id, reason="x", idempotency_key="k" * 256)
        found = grid.get_decision(decision_id)

    assert marks[0] == marks[1]
    assert corrections[0] == corrections[1]
    assert elsewhere.mark_id != marks[0].mark_id
    assert [len(found.marks), len(found.corrections)] == [1, 1]
    assert found.ground_truth is not None
    assert found.ground_truth.output == {"r": [1.5]}


def test_a_decision_recorded_twice_under_its_id_is_stored_once(server):
    async def main() -> None:
        async with AsyncLoopGrid(endpoint=server.api) as grid:
            first = await grid.record_decision(decision_type="reply", output="a")
            again = await grid.record_decision(
                decision_type="reply", output="a", decision_id=first.decision_id
            )
            page = await grid.list_decisions()
            assert again.decision_id == first.decision_id
            assert len(page.decisions) == 1

    asyncio.run(main())


def test_a_coroutine_can_replay_a_coroutine_function(server):
    loopgrid.configure(endpoint=server.api)

    async def main() -> str:
        await shout("hi")
        async with AsyncLoopGrid() as grid:
            (decision,) = (await grid.list_decisions()).decisions
            replay = await grid.replay(decision.decision_id, overrides={"input": {"text": "ho"}})
            assert replay.status == "completed", replay.reason
            return str((await grid.get_decision(replay.result_decision_id or "")).output)

    assert asyncio.run(main()) == "HO"


def test_a_frame_holds_every_row_with_the_types_of_its_columns(server):
    async def awaited() -> int:
        async with AsyncLoopGrid(endpoint=server.api) as grid:
            return int((await grid.frame("SELECT range FROM range(12345)")).num_rows)

    with LoopGrid(endpoint=server.api) as grid:
        grid.record_decision(decision_type="reply", output="a", usage={"input_tokens": 3})
        query = "SELECT decision_type, input_tokens, recorded_at FROM decisions WHERE decision_type = $1"
        arrow = grid.frame(query, ["reply"])
        pandas = grid.frame(query, ["reply"], to="pandas")
        polars = grid.frame(query, ["reply"], to="polars")
        with pytest.raises(errors.Invalid, match="'arrow', 'pandas', 'polars'"):
            grid.frame(query, to="spark")
        with pytest.raises(errors.Forbidden, match="DROP is not allowed"):
            grid.frame("DROP VIEW decisions")

    assert arrow.to_pylist()[0]["input_tokens"] == 3
    assert str(pandas["recorded_at"].dtype).startswith("datetime64")
    assert polars.row(0)[:2] == ("reply", 3)
    assert asyncio.run(awaited()) == 12345


def test_many_decisions_are_asked_for_at_once(server):
    async def awaited(ids: list[str]) -> list[str]:
        async with AsyncLoopGrid(endpoint=server.api) as grid:
            return [each.decision_id for each in (await grid.get_decisions(ids)).decisions]

    with LoopGrid(endpoint=server.api) as grid:
        ids = [grid.record_decision(decision_type="reply", output=n).decision_id for n in range(3)]
        unknown = "1" * 32 + "-" + "1" * 16
        found = grid.get_decisions([*reversed(ids), unknown])
        with pytest.raises(errors.Invalid, match="ids"):
            grid.get_decisions(["no id"])

    assert [each.output for each in found.decisions] == [2, 1, 0]
    assert found.missing == [unknown]
    assert asyncio.run(awaited(ids)) == ids


def test_a_frame_of_decisions_holds_all_that_the_list_finds_and_what_is_true_of_them(server):
    async def awaited() -> int:
        async with AsyncLoopGrid(endpoint=server.api) as grid:
            return int((await grid.decisions(decision_type="many")).num_rows)

    with LoopGrid(endpoint=server.api) as grid:
        ids = [
            grid.record_decision(decision_type="many", output={"n": n}, metadata={"tier": "gold"}).decision_id
            for n in range(7)
        ]
        grid.record_decision(decision_type="other")
        before = grid.decisions(decision_type="many").num_rows
        grid.attach_correction(ids[3], correction={"n": 30}, corrected_by="dana")
        listed = grid.list_decisions(decision_type="many", metadata={"tier": "gold"}, limit=500)
        arrow = grid.decisions(decision_type="many", metadata={"tier": "gold"})
        corrected = grid.decisions(corrected=True, to="pandas")
        polars = grid.decisions(decision_type="many", incorrect=False, to="polars")
        nothing = grid.decisions(decision_type="never")
        past = grid.decisions(corrected=True, as_of=1)
        with pytest.raises(errors.Invalid, match="limit"):
            grid.decisions(limit=10)
        with pytest.raises(TypeError, match="decision_typ"):
            grid.decisions(decision_typ="many")
        with pytest.raises(errors.Invalid, match="spark"):
            grid.decisions(to="spark")

    assert before == 7
    assert arrow.column("decision_id").to_pylist() == ids
    assert sorted(ids) == sorted(each.decision_id for each in listed.decisions)
    assert list(corrected["decision_id"]) == [ids[3]]
    assert list(corrected["corrected_by"]) == ["dana"]
    assert polars.height == 7
    assert nothing.num_rows == past.num_rows == 0
    assert nothing.column_names == arrow.column_names
    assert asyncio.run(awaited()) == 7
