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
