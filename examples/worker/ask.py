"""Records a decision, starts a worker, and asks for three replays of it: changed, hanging, cancelled.

Start a server first (``loopgrid serve``), then: ``python examples/worker/ask.py``.
``LOOPGRID_ENDPOINT`` names a server elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import agent
import loopgrid

HERE = Path(__file__).resolve().parent
TIME_LIMIT_S = "2"


def main() -> int:
    """Exit code: 0 where every replay came to the end that it should."""
    with loopgrid.LoopGrid() as grid:
        before = {one["decision_id"] for one in grid.list_decisions(decision_type="greeting").decisions}
        agent.greet("Dana")
        loopgrid.flush()
        made = [one["decision_id"] for one in grid.list_decisions(decision_type="greeting").decisions]
        (decision_id,) = (each for each in made if each not in before)

        # Nobody runs it yet, so it can be cancelled.
        unwanted = grid.create_replay(decision_id, overrides={})
        grid.cancel_replay(unwanted["replay_id"], reason="asked for by mistake")

        command = ["loopgrid", "worker", "agent", "--time-limit", TIME_LIMIT_S]
        with subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL) as worker:  # noqa: S603 - as a shell would
            kind = grid.create_replay(decision_id, overrides={"prompt": {"version": "2"}})
            slow = grid.create_replay(decision_id, overrides={"input": {"thinks_s": 3600}})
            ended = [grid.wait_for_replay(one["replay_id"]) for one in (kind, slow, unwanted)]
            worker.terminate()

        for replay in ended:
            print(_told(replay))
        comparison = grid.compare(decision_id, kind["replay_id"])
        outputs = (comparison["decision"]["output"], comparison["result"]["output"])
        print("{!r} -> {!r}: {}".format(*outputs, comparison["verdict"]))
    expected = ["completed", "failed", "cancelled"]
    return 0 if [replay["status"] for replay in ended] == expected else 1


def _told(replay: dict[str, Any]) -> str:
    steps = " > ".join(event["status"] for event in replay["history"])
    return steps + (f": {replay['reason']}" if replay["reason"] else "")


if __name__ == "__main__":
    sys.exit(main())
