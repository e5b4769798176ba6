"""A server killed in the middle of an experiment goes on with it, and asks for nothing twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path

import pytest

from loopgrid import LoopGrid
from tests.support.provider_stub import Asked, Reply, provider_stub
from tests.support.server import running_server, start_server
from tests.support.tickets import ended, eventually, providers, reads_tickets, record, ticket_of

pytestmark = pytest.mark.crash
ITEMS = 60


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_experiment_goes_on_by_itself_and_repeats_no_finished_call(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    with provider_stub() as stub:
        answers: Counter[int] = Counter()
        lock = threading.Lock()

        def counts(asked: Asked) -> Reply:
            reply = reads_tickets(asked)
            with lock:
                answers[ticket_of(asked)] += 1
            return reply

        stub.always(counts)
        environ = providers(tmp_path, stub.base_url, calls=4)
        server = start_server(tmp_path, environ=environ)
        record(server, range(1, ITEMS + 1))
        with LoopGrid(endpoint=server.api) as grid:
            made = grid.create_experiment(
                decisions={"filters": {}},
                overrides={"model": {"name": "better"}},
                control_share=0,
                concurrency=4,
            )
        experiment_id = made.experiment_id
        kills = sorted(dice.sample(range(1, ITEMS - 5), 3))
        for kill_at in kills:
            eventually(lambda: answers.total() >= kill_at, f"{kill_at} are answered")  # noqa: B023 - within the round
            server.kill()
            server = start_server(tmp_path, environ=environ)
        server.stop()

        with running_server(tmp_path, environ=environ) as again, LoopGrid(endpoint=again.api) as grid:
            done = ended(grid, experiment_id)
            shown = {
                item.decision_id: item for item in grid.experiment_items(experiment_id, limit=200).results
            }
            failed = [item for item in shown.values() if item.status == "failed"]
            if failed:
                grid.resume_experiment(experiment_id, retry_failed=True)
                ended(grid, experiment_id)
            whole = grid.get_experiment(experiment_id)

    assert done.status == "completed"
    assert done.progress.completed + done.progress.failed == ITEMS
    # As many again may have been answered and not be on record yet.
    assert len(failed) <= 2 * 4 * len(kills), "only what was under way at a kill"
    assert all("may have been charged" in item.why for item in failed)
    assert whole.progress.completed == ITEMS
    once = {number for number, times in answers.items() if times == 1}
    again_asked = {number for number, times in answers.items() if times > 1}
    assert once | again_asked == set(range(1, ITEMS + 1))
    assert max(answers.values()) <= 2, "never by itself"
    assert len(again_asked) <= len(failed)
