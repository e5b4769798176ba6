"""A deciding process, killed with SIGKILL at a random moment, again and again: what was lost?

    python -m tests.crash.emit_kill --rounds 200 --durability sync

`sync` must lose nothing whose call returned; `async` nothing that had returned 100 ms before the kill; what
is missing must be the end of the sequence.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import loopgrid
from tests.support.otlp_receiver import OtlpReceiver

ASYNC_WINDOW_S = 0.1
MAX_LIFE_S = 0.6
START_TIMEOUT_S = 60

PROGRAM = """
import os, sys, time, loopgrid

@loopgrid.decision("counted")
def counted(number: int, text: str) -> int:
    return number

number = 0
while True:
    number += 1
    counted(number, "x" * (number % 997))
    os.write(1, b"%d %d\\n" % (number, time.monotonic_ns()))
    if number % 50 == 0:
        time.sleep(0.001)
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One life and death.

    Attributes:
        returned: decisions whose call returned.
        promised: those among them that must have survived.
        lost: promised ones that did not arrive.
        unpromised: others that returned and did not arrive.
        holes: sequence numbers missing below the last that arrived.
    """

    returned: int
    promised: int
    lost: list[int]
    unpromised: int
    holes: int


def one_round(folder: Path, durability: str, dice: random.Random, *, collector_up: bool) -> Round:
    """Start a process, kill it, let this one drain what it left, and compare."""
    with OtlpReceiver() as receiver:
        environ = {
            **os.environ,
            "LOOPGRID_ENDPOINT": receiver.url if collector_up else "http://127.0.0.1:9",
            "LOOPGRID_SPOOL_DIR": str(folder),
            "LOOPGRID_DURABILITY": durability,
        }
        returned, killed_ns = _live_and_die(environ, dice.uniform(0.0, MAX_LIFE_S))
        loopgrid.configure(endpoint=environ["LOOPGRID_ENDPOINT"], spool_dir=str(folder))
        if not collector_up:
            _readdress(folder, environ["LOOPGRID_ENDPOINT"], receiver.url)
            loopgrid.configure(endpoint=receiver.url, spool_dir=str(folder))
        assert loopgrid.recover(60), "what the killed process left could not be sent"
        loopgrid.shutdown()
        arrived = {int(span.input["number"]) for span in receiver.spans}
        numbers = {int(span.attributes["loopgrid.producer.seq"]) for span in receiver.spans}
        numbers |= {int(event.attributes["loopgrid.producer.seq"]) for event in receiver.events
                    if event.name == "loopgrid.decision.started"}  # fmt: skip
    window_ns = 0 if durability == "sync" else int(ASYNC_WINDOW_S * 1e9)
    promised = {number for number, at_ns in returned.items() if at_ns <= killed_ns - window_ns}
    return Round(
        returned=len(returned),
        promised=len(promised),
        lost=sorted(promised - arrived),
        unpromised=len(set(returned) - promised - arrived),
        holes=max(numbers, default=0) - len(numbers),
    )


def _readdress(folder: Path, old: str, new: str) -> None:
    """The collector that was down comes up; for this test, elsewhere."""
    for about in folder.glob("*/about.json"):
        about.write_text(about.read_text().replace(old, new))


def _live_and_die(environ: dict[str, str], life_s: float) -> tuple[dict[int, int], int]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, env=environ)
    assert process.stdout is not None
    said = bytearray()
    handle = process.stdout.fileno()
    assert select.select([handle], [], [], START_TIMEOUT_S)[0], "the process decided nothing"
    end = time.monotonic() + life_s
    while (left := end - time.monotonic()) > 0:
        if select.select([handle], [], [], left)[0]:
            said += os.read(handle, 2**16)
    killed_ns = time.monotonic_ns()
    process.send_signal(signal.SIGKILL)
    while chunk := os.read(handle, 2**16):
        said += chunk
    process.wait()
    process.stdout.close()
    lines = bytes(said).split(b"\n")[:-1]
    return {int(number): int(at_ns) for number, at_ns in (line.split() for line in lines)}, killed_ns


def main() -> int:
    """Run rounds and print what they lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--durability", choices=("sync", "async"), required=True)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    rounds = []
    for index in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(one_round(Path(folder), options.durability, dice, collector_up=index % 2 == 0))
    lost = sum(len(each.lost) for each in rounds)
    holes = sum(each.holes for each in rounds)
    print(
        f"{options.durability}: {len(rounds)} kills, {sum(each.returned for each in rounds)} returned, "
        f"{sum(each.promised for each in rounds)} promised, {lost} of them lost; "
        f"{sum(each.unpromised for each in rounds)} younger ones lost; {holes} holes in the sequence"
    )
    return 1 if lost or holes else 0


if __name__ == "__main__":
    sys.exit(main())
