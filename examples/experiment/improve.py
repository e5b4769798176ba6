"""From a wrong decision to a gate: fork it, look at it, try the change on all that people corrected, decide.

Runs alone: ``python examples/experiment/improve.py`` starts a LoopGrid server and a model of its own, on free
ports and with a ledger in a temporary folder. It goes the way twice: with the function of ``sorting.py``,
which runs again in a worker, and with recorded model calls, which the server sends to the model again.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "model_replay"))

import loopgrid  # noqa: E402 - after the path
import rules_model  # noqa: E402
import sorting  # noqa: E402

RULE = "fixed >= 0.8 and newly_broken == 0 and low(gain) > 0"
RULES = "Sort the ticket:\n{rules}"
CURT = "broke -> complaint\ncharged -> question\nwhere is -> question"
LONGER = "money back -> refund\ntwice -> refund\n" + CURT
DURATIONS = re.compile(r"^duration_ms .*\n", re.MULTILINE)
IDS = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}|(rpl|exp|coh)_[0-9a-f]{32}")


def main() -> int:
    """Exit code: 0 where the gate lets both changes pass."""
    with (
        tempfile.TemporaryDirectory() as folder,
        model() as base_url,
        server(Path(folder), base_url) as api,
        loopgrid.LoopGrid(endpoint=api) as grid,
    ):
        loopgrid.configure(endpoint=api)
        commands = Commands(api)

        print("== The function runs again ==")
        wrong = recorded_by_the_function(grid)
        change = ["--override", "prompt.version=2"]
        commands.fork(wrong, [*change, "--app", "sorting"])
        passed = commands.gate("sort_ticket", [*change, "--app", "sorting"], Path(folder) / "function")

        print("== The server asks the model again ==")
        wrong = recorded_of_a_model(grid)
        change = ["--override", f"prompt.variables.rules={LONGER}"]
        commands.fork(wrong, [*change, "--wait", "60"])
        passed &= commands.gate("ask_for_label", change, Path(folder) / "model")
    return 0 if passed else 1


def recorded_by_the_function(grid: loopgrid.LoopGrid) -> str:
    """Sort every ticket, and say what would have been right; the id of a decision that was wrong."""
    for ticket in sorting.TICKETS:
        sorting.sort(ticket)
    loopgrid.flush()
    wrong = ""
    for decision in grid.list_decisions(decision_type="sort_ticket").decisions:
        ticket = decision.input["ticket"]
        right = {"label": sorting.TICKETS[ticket]}
        grid.attach_correction(decision.decision_id, correction=right, corrected_by="dana")
        if ticket.startswith("My blender broke and"):
            wrong = decision.decision_id
    return wrong


def recorded_of_a_model(grid: loopgrid.LoopGrid) -> str:
    """The same tickets as an instrumentation records the calls of a model."""
    wrong = []
    for ticket, right in sorting.TICKETS.items():
        rules = RULES.format(rules=CURT)
        said = rules_model.label(rules, ticket)
        call = grid.record_decision(
            decision_type="ask_for_label",
            input=[message("system", rules), message("user", ticket)],
            prompt={"name": "ask", "version": "1", "template": RULES, "variables": {"rules": CURT}},
            model={"provider": "local", "name": "rules-1", "parameters": {"temperature": 0}},
            output=[answer(said)],
        )
        decision_id = call["decision_id"]
        grid.attach_correction(decision_id, correction=[answer(right)], corrected_by="dana")
        if said != right:
            wrong.append(str(decision_id))
    return wrong[0]


class Commands:
    """The commands as a shell would run them, against one server."""

    def __init__(self, api: str) -> None:
        """Those of a server."""
        self._environ = os.environ | {"LOOPGRID_ENDPOINT": api, "COLUMNS": "100"}

    def run(self, *words: str) -> int:
        """Run one, and show what it says without ids and durations, which differ each time; its exit code."""
        ran = self.output(*words)
        print("$ loopgrid " + " ".join(shown(word) for word in words))
        told = DURATIONS.sub("", IDS.sub("ID", ran.stdout)).rstrip()
        print(f"{told or ran.stderr.rstrip()}\n")
        return ran.returncode

    def output(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one, and show nothing."""
        command = ["loopgrid", *words]
        return subprocess.run(  # noqa: S603 - this example's own commands
            command, cwd=HERE, env=self._environ, capture_output=True, text=True, check=False
        )

    def fork(self, decision_id: str, change: list[str]) -> None:
        """Replay one decision with the change, and show on one screen what became different."""
        told = self.output("replay", decision_id, *change, "--json")
        self.run("compare", decision_id, json.loads(told.stdout)["replay_id"])

    def gate(self, decision_type: str, change: list[str], reports: Path) -> bool:
        """Try the change on all that people corrected in a week, and hold it against the rule."""
        cohort = ["--corrected-since", "7d", "--filter", f"decision_type={decision_type}"]
        files = [f"--{kind}={reports}.{kind}" for kind in ("junit", "markdown", "html")]
        code = self.run("check", *cohort, *change, "--rule", RULE, *files)
        written = all(Path(file.partition("=")[2]).stat().st_size > 0 for file in files)
        return code == 0 and written


def shown(word: str) -> str:
    """A word of a command on one line, as it is the same each time."""
    path = re.sub(r"=/.*/", "=", word)
    return shlex.quote(IDS.sub("ID", path)).replace("\n", "\\n")


def message(role: str, text: str) -> dict[str, Any]:
    """A message as OpenTelemetry writes it."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def answer(text: str) -> Mapping[str, Any]:
    """What a model says."""
    return {**message("assistant", text), "finish_reason": "stop"}


@contextmanager
def model() -> Iterator[str]:
    """A model that speaks OpenAI's chat completions, for the length of a block; its base URL."""
    with rules_model.server() as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/v1"
        finally:
            serving.shutdown()
            thread.join()


@contextmanager
def server(folder: Path, base_url: str) -> Iterator[str]:
    """A LoopGrid server that may ask the model, no more than it can take; the base URL of its API."""
    providers = folder / "providers.toml"
    providers.write_text(f'[local]\nbase_url = "{base_url}"\nconcurrency = 4\nrequests_per_minute = 6000\n')
    ports = ["--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0"]
    command = ["loopgrid", "serve", "--json", "--ledger", str(folder / "tickets.duckdb"), *ports]
    environ = os.environ | {"LOOPGRID_PROVIDERS": str(providers)}
    with subprocess.Popen(  # noqa: S603 - this example's own command
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as serving:
        assert serving.stdout is not None  # noqa: S101 - it is a pipe
        try:
            yield json.loads(serving.stdout.readline())["api"]
        finally:
            serving.terminate()


if __name__ == "__main__":
    sys.exit(main())
