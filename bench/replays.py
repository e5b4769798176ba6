"""How soon a worker picks up a replay, and what workers that wait cost the server.

    python bench/replays.py

Pick-up is measured by the function itself: from before the request for the replay is sent until its
first line runs in the worker's child. For the cost of waiting, a hundred connections each hold a claim.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from harness import Server, machine, percentile, serving, table, verdict
from loopgrid import LoopGrid

MOST_PICK_UP_MS: Final = 100.0
MOST_IDLE_SHARE: Final = 0.005
"""Share of a core that waiting workers may add."""

_UNDISTURBED_S: Final = 0.25
_PROGRAM: Final = """
import time
import loopgrid

@loopgrid.decision("noticed")
def notice(number: int) -> float:
    return time.time()

if __name__ == "__main__":
    notice(0)
    loopgrid.flush()
"""


@contextmanager
def working(server: Server, folder: Path) -> Iterator[None]:
    """A worker that is ready."""
    (folder / "program.py").write_text(_PROGRAM)
    variables = os.environ | {
        "LOOPGRID_ENDPOINT": f"http://{server.api}",
        "LOOPGRID_SPOOL_DIR": str(folder / "spool"),
    }
    subprocess.run([sys.executable, "program.py"], cwd=folder, env=variables, check=True)
    command = [str(Path(sys.executable).with_name("loopgrid")), "worker", "program", "--json"]
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "ready"
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


def pick_up_ms(server: Server, replays: int) -> list[float]:
    """Milliseconds from asking for a replay to its function's first line, one after the other."""
    found = []
    with LoopGrid(endpoint=f"http://{server.api}") as grid:
        (decision,) = grid.list_decisions(decision_type="noticed").decisions
        for number in range(replays):
            asked = time.time()
            replay = grid.create_replay(decision.decision_id, overrides={"input": {"number": number}})
            # Looking at once would take the server's time from the worker.
            time.sleep(_UNDISTURBED_S)
            ended = grid.wait_for_replay(replay.replay_id)
            assert ended.result_decision_id is not None, ended
            found.append((grid.get_decision(ended.result_decision_id).output - asked) * 1000)
    return found


def idle_share(server: Server, workers: int, seconds: float) -> float:
    """Share of a core that the server uses while so many workers wait."""
    body = {"worker": "idle", "functions": ["nobody.has"], "wait_s": 60}
    host, _, port = server.api.rpartition(":")
    with ExitStack() as stack:
        for _ in range(workers):
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            sent = json.dumps(body).encode()
            head = (
                f"POST /v1/replays/claim HTTP/1.1\r\nHost: {server.api}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(sent)}\r\n\r\n"
            )
            connection.sendall(head.encode() + sent)
        time.sleep(1)
        before, began = server.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return (server.cpu_s() - before) / (time.monotonic() - began)


def main() -> int:
    """Exit code 0: figures belong to a machine."""
    parser = argparse.ArgumentParser(description="Measure the pick-up of replays and the cost of waiting.")
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--workers", type=int, default=100, help="that wait")
    parser.add_argument("--seconds", type=float, default=30.0, help="of waiting")
    parser.add_argument("--folder", help="where the ledger lies meanwhile")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as name,
        serving(Path(name) / "replays.duckdb") as server,
    ):
        with working(server, Path(name)):
            pick_up = pick_up_ms(server, options.replays)
        none = idle_share(server, 0, options.seconds)
        waiting = idle_share(server, options.workers, options.seconds)
    added = waiting - none
    passed = percentile(pick_up, 99) < MOST_PICK_UP_MS and added < MOST_IDLE_SHARE
    rows = [
        ("pick-up p50, p99", f"{percentile(pick_up, 50):.0f} ms, {percentile(pick_up, 99):.0f} ms"),
        ("server, no worker waits", f"{none:.2%} of a core"),
        (f"server, {options.workers} workers wait", f"{waiting:.2%} of a core"),
        ("machine", machine()),
        ("bounds", verdict(passed=passed)),
    ]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
