"""``loopgrid demo``: the whole loop for real, on an embedded ledger, in under a minute."""

from __future__ import annotations

import importlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track
from rich.text import Text

import loopgrid
from loopgrid_query.cli import comparison, demo_samples
from loopgrid_query.cli.connection import Connection, client
from loopgrid_query.cli.console import Column, stderr, stdout, table
from loopgrid_query.cli.decisions import model_label
from loopgrid_query.cli.demo_server import DemoServer, running_server
from loopgrid_query.cli.errors import FAILURE, CliError
from loopgrid_query.cli.gist import gist
from loopgrid_query.cli.importing import send_files

_EXAMPLE = Path("examples", "support_agent")
_SAMPLES = Path("tests", "data", "otlp-samples")
_SHUTDOWN_TIMEOUT_S: Final = 5.0
_REVIEWER: Final = "support_lead"
_QUERY: Final = """\
SELECT output->>'action' AS action, count(*) AS decisions,
       count(*) FILTER (incorrect) AS incorrect, count(*) FILTER (corrected) AS corrected,
       count(*) FILTER (replay_of IS NOT NULL) AS replays
FROM decisions WHERE decision_type = 'customer_support_reply'
GROUP BY ALL ORDER BY incorrect DESC, replays DESC, decisions DESC, action"""


@dataclass(slots=True)
class _Narrator:
    """Prints numbered headings and lines below them."""

    out: Console = field(default_factory=stdout)
    step: int = 0

    def heading(self, text: str) -> None:
        self.step += 1
        self.out.print()
        self.out.print(Text(f"{self.step}  {text}", "bold cyan"))

    def say(self, text: str | Text) -> None:
        self.out.print(Text("   ").append_text(Text(text) if isinstance(text, str) else text))


def demo() -> None:
    """Show the whole loop for real, on a fresh ledger.

    Starts a real server on free ports with a fresh ledger in a temporary folder, and really runs the
    example application in examples/support_agent. Needs a source checkout, no account and no key.
    """
    started = time.monotonic()
    root = _checkout()
    # Ended from outside, the demo still takes its server with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILURE))
    folder = Path(tempfile.mkdtemp(prefix="loopgrid-demo-"))
    told = _Narrator()
    told.heading("A real server on free ports, with a fresh ledger")
    with running_server(folder) as server:
        try:
            decision_id = _tour(told, root, server)
        except Exception:
            server.print_log_tail()
            raise
        finally:
            # While the server is there to take what is still on its way.
            loopgrid.shutdown(_SHUTDOWN_TIMEOUT_S)
    _goodbye(told, server, decision_id, time.monotonic() - started)


def _checkout() -> Path:
    """The root of the source checkout that this code, or the working directory, is part of."""
    for root in (Path(__file__).resolve().parents[3], Path.cwd()):
        if (root / _EXAMPLE).is_dir() and (root / _SAMPLES).is_dir():
            return root
    raise CliError(
        "the demo needs the example and the samples of a source checkout; "
        "clone the repository and run it from there."
    )


def _tour(told: _Narrator, root: Path, server: DemoServer) -> str:
    """All steps; returns the id of the decision they are about."""
    told.say(f"API {server.api}, OTLP/HTTP {server.otlp_http}")
    agent, tickets = _application(root, server)
    grid = client(server.api)
    _answer_tickets(told, agent, tickets)
    ticket, decision = _find_wrong(told, grid, tickets)
    decision_id = str(decision["decision_id"])

    told.heading("Marked as incorrect")
    reason = f"should {ticket.expected_action}, not {decision['output']['action']}"
    made = grid.mark_incorrect(decision_id, reason=reason, marked_by=_REVIEWER)
    told.say(f"{made['mark_id']}: {reason}")

    told.heading("Replayed with prompt support v2: the same function runs again, here")
    replay = grid.replay(decision_id, overrides={"prompt": {"version": agent.SUPPORT_V2.version}})
    told.say(f"{replay['replay_id']}: {replay['status']}")
    if replay["status"] != "completed":
        raise CliError(f"the replay is {replay['status']}: {replay.get('reason')}")

    told.heading("A human says what is right")
    correction = grid.attach_correction(
        decision_id=decision_id, correction=dict(ticket.lead_output), corrected_by=_REVIEWER
    )
    told.say(f"{correction['correction_id']} by {_REVIEWER}")

    told.heading("Side by side")
    told.out.print(comparison.render(grid.compare(decision_id, replay["replay_id"]), told.out))
    told.heading("The ledger is SQL")
    told.out.print(Text(_QUERY, "dim"))
    _print_answer(told, grid.sql(_QUERY))
    _import_samples(told, root / _SAMPLES, server)
    return decision_id


def _application(root: Path, server: DemoServer) -> tuple[Any, Any]:
    """The example's modules `support_agent` and `tickets`, set to send to this server."""
    loopgrid.configure(service_name="support-agent", endpoint=server.api)
    sys.path.insert(0, str(root / _EXAMPLE))
    return importlib.import_module("support_agent"), importlib.import_module("tickets")


def _answer_tickets(told: _Narrator, agent: Any, tickets: Any) -> None:
    batch = tickets.read_tickets()
    label = model_label({"provider": agent.MODEL.provider, "name": agent.MODEL.name})
    told.heading(f"The example's support agent answers {len(batch)} tickets")
    note = " (a text policy engine, not an LLM)" if agent.MODEL.provider == "example" else ""
    told.say(f"prompt support v{agent.SUPPORT_V1.version}, model {label}{note}")
    began = time.monotonic()
    notes = stderr()
    for ticket in track(
        batch, "answering", console=notes, disable=not notes.is_terminal, transient=True, update_period=0.5
    ):
        try:
            agent.reply(ticket.message)
        except RuntimeError as error:
            raise CliError(f"the example's model failed on {ticket.id}: {error}") from error
    if not loopgrid.flush(30):
        raise CliError("not every decision reached the server within 30 s.")
    told.say(f"{len(batch)} decisions recorded and acknowledged in {time.monotonic() - began:.1f} s")


def _find_wrong(told: _Narrator, grid: Any, tickets: Any) -> tuple[Any, Mapping[str, Any]]:
    """A decision that the support lead would have taken differently, and wrote down how."""
    page = grid.list_decisions(decision_type="customer_support_reply", limit=100)
    by_message = {decision["input"]["message"]: decision for decision in page["items"]}
    pairs = [(ticket, by_message[ticket.message]) for ticket in tickets.read_tickets()]
    wrong = [pair for pair in pairs if pair[1]["output"]["action"] != pair[0].expected_action]
    told.heading(f"{len(wrong)} of {len(pairs)} are not what the support lead would have done")
    columns = [
        Column("ticket", least=6, whole=True),
        Column("customer", least=30),
        Column("decided", least=14),
        Column("expected", least=16),
    ]
    rows = [
        (ticket.id, ticket.message, decision["output"]["action"], ticket.expected_action)
        for ticket, decision in wrong
    ]
    told.out.print(table(told.out, columns, rows))
    for ticket, decision in wrong:
        if ticket.lead_output is not None:
            said = Text(f"{ticket.id} got the answer ").append(gist(decision["output"]["response"]), "red")
            told.say(said)
            told.say(f"decision {decision['decision_id']}")
            return ticket, decision
    raise CliError("this model decided every ticket right; unset OPENAI_BASE_URL to see the loop.")


def _import_samples(told: _Narrator, samples: Path, server: DemoServer) -> None:
    told.heading("The pipeline you already have: payloads of five instrumentations, sent as they are")
    files = demo_samples.sample_files(samples)
    with Connection(server.otlp_http) as connection:
        report = send_files(connection, [file for paths in files.values() for file in paths])
    told.say(f"{report.requests} OTLP requests, {report.rejected.total()} records rejected")
    columns = [
        Column("instrumentation", least=19, whole=True),
        Column("decisions", least=9, right=True),
        Column("model", least=10),
        Column("tokens", least=7, right=True),
        Column("input", least=14),
        Column("output", least=14),
        Column("dialect", least=12),
    ]
    answer = client(server.api).sql(demo_samples.QUERY)
    rows = [
        (
            seen.instrumentation,
            str(seen.decisions),
            str(seen.example["model_name"]),
            f"{seen.example['input_tokens']}→{seen.example['output_tokens']}",
            gist(demo_samples.parsed(seen.example["input"])),
            gist(demo_samples.parsed(seen.example["output"])),
            seen.dialects,
        )
        for seen in demo_samples.seen_by_instrumentation(files, answer)
    ]
    told.out.print(table(told.out, columns, rows))
    if report.refusals:
        first = report.refusals[0]
        raise CliError(f"{len(report.refusals)} samples were refused, first {first.where}: {first.reason}")
    if len(rows) < len(files):
        raise CliError("not every instrumentation's payloads became decisions.")


def _print_answer(told: _Narrator, answer: Mapping[str, Any]) -> None:
    columns = [
        Column(column["name"], least=max(8, len(column["name"])), right=position > 0)
        for position, column in enumerate(answer["columns"])
    ]
    told.out.print(table(told.out, columns, [[gist(cell) for cell in row] for row in answer["rows"]]))


def _goodbye(told: _Narrator, server: DemoServer, decision_id: str, seconds: float) -> None:
    told.out.print()
    told.out.print(Text(f"Done in {seconds:.1f} s. The server is stopped, the ledger stays. Next:", "bold"))
    command = _command()
    for line in (
        f"{command} serve --ledger {server.ledger}",
        f"{command} decisions show {decision_id}    # in another terminal",
        f"{command} sql 'FROM marks'",
        "README.md: put @loopgrid.decision on your own function, or point OTLP at the server",
    ):
        told.out.print(f"   {line}", soft_wrap=True)


def _command() -> str:
    """How the reader can call `loopgrid` from here: `make demo` puts it in a folder off the path."""
    beside = Path(sys.executable).with_name("loopgrid")
    if shutil.which("loopgrid") or not beside.exists():
        return "loopgrid"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)
