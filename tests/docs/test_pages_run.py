"""What the documentation shows is run, unchanged, against a real server."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from loopgrid import LoopGrid
from tests.docs import markdown
from tests.docs.markdown import Block
from tests.support.server import RunningServer, without_settings

RUN = {"python", "sh", "sql"}
SHOWN = {"text", "json", "yaml"}
"""Languages that show something rather than say what to do."""


def _runs(block: Block) -> bool:
    return block.reason is None and block.language in RUN


PAGES = [page for page in markdown.pages() if any(map(_runs, markdown.blocks(page)))]

EXISTING_APPLICATION = '''
"""Somebody's program with a model call under OpenTelemetry, set up by environment variables only."""
import json
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
message = {"role": "user", "parts": [{"type": "text", "content": "I was charged twice"}]}
with provider.get_tracer("app").start_as_current_span("chat gpt-5-mini") as span:
    span.set_attribute("gen_ai.operation.name", "chat")
    span.set_attribute("gen_ai.provider.name", "openai")
    span.set_attribute("gen_ai.request.model", "gpt-5-mini")
    span.set_attribute("gen_ai.input.messages", json.dumps([message]))
provider.shutdown()
'''


@pytest.mark.integration
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(markdown.REPOSITORY).as_posix())
def test_every_block_of_the_page_runs(page: Path, server: RunningServer, tmp_path: Path):
    (tmp_path / "app.py").write_text(EXISTING_APPLICATION)
    session = ""
    for block in filter(_runs, markdown.blocks(page)):
        if file := re.match(r"# (\w+\.py)\n", block.code):
            (tmp_path / file[1]).write_text(block.code)
        elif block.language == "python":
            # The reader types on in the same session.
            session += block.code
            _run(dataclasses.replace(block, code=session), server, tmp_path)
        else:
            _run(block, server, tmp_path)


@pytest.mark.integration
def test_the_readmes_replay_runs_the_function_and_records_nothing_else(server: RunningServer, tmp_path: Path):
    blocks = markdown.blocks(markdown.REPOSITORY / "README.md")
    (file,) = (block for block in blocks if block.code.startswith("# support.py\n"))
    (tmp_path / "support.py").write_text(file.code)
    (replay,) = (block for block in blocks if "--app support --override prompt.version=2" in block.code)
    _run(replay, server, tmp_path)

    items = LoopGrid(endpoint=server.api).list_decisions(include_replays=True)["items"]
    assert [item["output"]["response"].partition(".")[0] for item in items] == [
        "Look for a second charge first",
        "You are a support agent",
    ]
    assert [item["function"] for item in items] == ["support.reply"] * 2
    assert [item["service_name"] for item in items] == ["support-agent"] * 2
    assert items[0]["replay_of"] == items[1]["decision_id"]


def test_a_block_is_run_or_only_shows_something_or_says_why_it_is_not_run():
    blocks = [block for page in markdown.pages() for block in markdown.blocks(page)]
    unclear = [f"{b.page}:{b.line}" for b in blocks if not b.reason and b.language not in RUN | SHOWN]
    not_run = [f"{b.page}:{b.line}" for b in blocks if b.reason]

    assert unclear == []
    assert len(not_run) <= 5, f"few, it says: {not_run}"


def test_links_between_pages_lead_somewhere():
    broken = []
    for page in [*markdown.pages(), *sorted((markdown.REPOSITORY / "docs" / "adr").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)", page.read_text("utf-8")):
            if target[0] and not (page.parent / target[0]).exists():
                broken.append(f"{page.name}: {target[0]}")
            if target[1] and target[1][1:] not in _anchors(page.parent / target[0] if target[0] else page):
                broken.append(f"{page.name}: {''.join(target)}")

    assert broken == []


def _run(block: Block, server: RunningServer, folder: Path) -> None:
    """The block as a reader would paste it; only the three default addresses become the server's."""
    code = block.code
    for default, actual in (
        ("127.0.0.1:8000", urlsplit(server.api).netloc),
        ("127.0.0.1:4318", urlsplit(server.otlp_http).netloc),
        ("127.0.0.1:4317", server.otlp_grpc),
    ):
        code = code.replace(default, actual)
    command = {
        "python": [sys.executable, "-W", "error", "-c", code],
        "sh": ["bash", "-euo", "pipefail", "-c", code],
        "sql": [str(Path(sys.executable).with_name("loopgrid")), "sql", code],
    }[block.language]
    environ = without_settings(os.environ) | {
        "LOOPGRID_ENDPOINT": server.api,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)

    assert result.returncode == 0, f"{block.page}:{block.line}\n{result.stdout}\n{result.stderr}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
