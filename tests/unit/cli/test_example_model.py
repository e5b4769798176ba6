"""The example's model.py against an OpenAI-compatible endpoint: a real socket, scripted answers."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import loopgrid

PROMPT = '- In any other case, do hand_over and say "Hello."\nCustomer says: I was charged twice'
MODULES = ("model", "policy_matcher")


@dataclass
class Endpoint:
    """What it is asked, and what it answers."""

    url: str = ""
    status: int = 200
    content: str = "{}"
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    scripted = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            scripted.asked.append({"path": self.path} | json.loads(body))
            scripted.keys.append(self.headers["authorization"])
            answer = json.dumps({"choices": [{"message": {"content": scripted.content}}]}).encode()
            self.send_response(scripted.status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        scripted.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield scripted
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def model(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(repository / "examples" / "support_agent"))
    import model

    yield model
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def gpt(model: ModuleType, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> loopgrid.Model:
    """The model that the environment asks for, once an endpoint is set."""
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    chosen = model.default_model()
    assert isinstance(chosen, loopgrid.Model)
    return chosen


def test_with_an_endpoint_set_the_prompt_goes_there_word_for_word(model, endpoint, gpt):
    endpoint.content = '{"action": "refund", "response": "Done."}'
    assert model.answer(gpt, PROMPT) == {"action": "refund", "response": "Done."}
    assert endpoint.keys == ["Bearer a-key"]
    assert endpoint.asked == [
        {
            "path": "/v1/chat/completions",
            "model": gpt.name,
            "messages": [{"role": "user", "content": PROMPT}],
            "temperature": 0.0,
        }
    ]


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        ('```json\n{"action": "a", "response": "b"}\n```', {"action": "a", "response": "b"}),
        ("Sure, I refunded it.", {"action": "none_stated", "response": "Sure, I refunded it."}),
        ('{"answer": 1}', {"action": "none_stated", "response": '{"answer": 1}'}),
    ],
)
def test_what_the_model_said_is_never_dressed_up(model, endpoint, gpt, content, reply):
    endpoint.content = content
    assert model.answer(gpt, PROMPT) == reply


def test_a_refusal_of_the_endpoint_is_an_error_that_quotes_it(model, endpoint, gpt):
    endpoint.status = 429
    with pytest.raises(RuntimeError, match="429"):
        model.answer(gpt, PROMPT)


def test_an_endpoint_that_does_not_answer_is_named(model, gpt, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(RuntimeError, match=r"http://127\.0\.0\.1:9/v1/chat/completions"):
        model.answer(gpt, PROMPT)


def test_without_an_endpoint_the_engine_decides_and_says_what_it_is(model):
    chosen = model.default_model({})
    assert (chosen.provider, chosen.name) == ("example", "policy-matcher")
    assert model.answer(chosen, PROMPT) == {"action": "hand_over", "response": "Hello."}


def test_another_model_without_an_endpoint_says_what_to_set(model, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(RuntimeError, match="OPENAI_BASE_URL"):
        model.answer(loopgrid.Model("openai", "gpt-4o"), PROMPT)
