"""A wrong model call, corrected, and sent to the model again with another prompt.

Runs alone: ``python examples/model_replay/sort_tickets.py`` starts a model and a LoopGrid server of its
own, on free ports and with a ledger in a temporary folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import loopgrid
import rules_model

RULES = "Sort the ticket:\n{rules}"
CURT = "broke -> complaint"
BETTER = "money back -> refund\nbroke -> complaint"
CHANGES: list[dict[str, Any]] = [
    {},
    {"prompt": {"variables": {"rules": BETTER}}},
    {"model": {"provider": "elsewhere"}},
]
TICKET = "My blender broke and I want my money back."


@contextmanager
def serving_model() -> Iterator[str]:
    """The model for the length of a block; its base URL."""
    with rules_model.server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving_loopgrid(folder: Path, base_url: str) -> Iterator[str]:
    """A server that may ask the model; the base URL of its API."""
    providers = folder / "providers.toml"
    providers.write_text(f'[local]\nbase_url = "{base_url}"\n')
    ports = ["--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0"]
    command = ["loopgrid", "serve", "--json", "--ledger", str(folder / "tickets.duckdb"), *ports]
    environ = os.environ | {"LOOPGRID_PROVIDERS": str(providers)}
    with subprocess.Popen(  # noqa: S603 - this example's own command
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        try:
            yield json.loads(server.stdout.readline())["api"]
        finally:
            server.terminate()


def message(role: str, text: str) -> dict[str, Any]:
    """A message as OpenTelemetry writes it."""
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def main() -> int:
    """Exit code: 0 where the other prompt mended the answer."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving_model() as base_url,
        serving_loopgrid(Path(folder), base_url) as api,
        loopgrid.LoopGrid(endpoint=api) as grid,
    ):
        rules = RULES.format(rules=CURT)
        call = grid.record_decision(
            decision_type="sort_ticket",
            input=[message("system", rules), message("user", TICKET)],
            prompt={"name": "sort", "version": "1", "template": RULES, "variables": {"rules": CURT}},
            model={"provider": "local", "name": "rules-1", "parameters": {"temperature": 0}},
            output=[{**message("assistant", rules_model.label(rules, TICKET)), "finish_reason": "stop"}],
        )
        right = [{**message("assistant", "refund"), "finish_reason": "stop"}]
        grid.mark_incorrect(call["decision_id"], reason="It asks for money")
        grid.attach_correction(call["decision_id"], correction=right, corrected_by="agent_42")

        verdicts = []
        for overrides in CHANGES:
            replay = grid.create_replay(call["decision_id"], overrides=overrides)
            ended = grid.wait_for_replay(replay["replay_id"])
            verdicts.append(grid.compare(call["decision_id"], replay["replay_id"]).verdict)
            print(f"{json.dumps(overrides)}: {ended['status']}, {verdicts[-1]}")
        print(ended["reason"])
    return 0 if verdicts == ["still_wrong", "fixed", "not_comparable"] else 1


if __name__ == "__main__":
    sys.exit(main())
