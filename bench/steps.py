"""A decision of fifty tool calls: what a replay from the record costs over the function itself.

    python bench/steps.py

Side by side in one process, medians: the function undecorated, the function decorated, and its calls answered
from a tape in memory. What a replay costs besides (asking for it, its record's way) is `bench/replays.py`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import loopgrid
from loopgrid import tape
from loopgrid.config import DeliveryLimits

CALLS = 50
ROUNDS = 60


def _look_up(number: int) -> dict[str, int]:
    return {"number": number, "cents": number * 100}


look_up = loopgrid.tool(effect="read")(_look_up)


def _decide(find: Callable[[int], dict[str, int]]) -> int:
    return sum(find(number)["cents"] for number in range(CALLS))


@loopgrid.decision("fifty")
def decide() -> int:
    return _decide(look_up)


def recorded() -> dict[str, object]:
    """What the API tells of such a decision."""
    return {
        "truncated": False,
        "items": [
            {
                "span_id": f"{number:016x}",
                "parent_span_id": None,
                "kind": "tool",
                "name": "_look_up",
                "effect": "read",
                "arguments": json.dumps({"number": number}),
                "result": json.dumps(_look_up(number)),
                "ended": True,
                "error": None,
                "lossiness": [],
            }
            for number in range(CALLS)
        ],
    }


def median_ms(action: Callable[[], object]) -> float:
    """Median milliseconds of one call, after a warm-up."""
    for _ in range(5):
        action()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def replayed() -> int:
    """The decision, all of its tools answered."""
    played = tape.tape_of(recorded(), {}, ())
    with tape.playing(played):
        result = decide()
    assert (played.given, played.ran, played.refusals) == (CALLS, 0, [])
    return result


def main() -> None:
    """Print the table."""
    with TemporaryDirectory() as folder:
        # Nothing listens there: what is recorded stays on disk.
        loopgrid.configure(
            endpoint="http://127.0.0.1:9", spool_dir=folder, delivery=DeliveryLimits(exit_flush_s=0.1)
        )
        assert replayed() == _decide(_look_up)
        bare, live, answered = median_ms(lambda: _decide(_look_up)), median_ms(decide), median_ms(replayed)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        loopgrid.shutdown(0.1)
    print(f"{CALLS} tool calls in one decision, median of {ROUNDS}")
    print(f"  the function itself              {bare:8.3f} ms")
    print(f"  decorated, tools run             {live:8.3f} ms")
    print(
        f"  decorated, tools from the record {answered:8.3f} ms   {answered - bare:.3f} ms over the function"
    )
    print(f"  spooled meanwhile                {size / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
