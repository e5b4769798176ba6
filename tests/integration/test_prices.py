"""Cost is a view over price books: right per kind of token, and unknown where a price is unknown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopgrid import LoopGrid
from loopgrid_query.cli import price_lists
from tests.support.server import COMMAND, RunningServer, start_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    running = start_server(tmp_path)
    yield running
    running.stop()


def command(server: RunningServer, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words, "--endpoint", server.api], capture_output=True, text=True, timeout=60, check=False
    )


def decided(server: RunningServer, model: str | None = "m-1", provider: str = "acme", **usage: int) -> str:
    made = LoopGrid(service_name="shop", endpoint=server.api).record_decision(
        decision_type="t",
        input={},
        output={},
        model=None if model is None else {"provider": provider, "name": model},
        usage=usage or None,
    )
    return str(made["decision_id"])


def book(server: RunningServer, tmp_path: Path, *prices: dict[str, Any]) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"source": "test", "prices": prices}))
    done = command(server, "prices", "import", str(file))
    assert done.returncode == 0, done.stderr


def costs(server: RunningServer) -> dict[str, tuple[float | None, str | None]]:
    answer = LoopGrid(service_name="shop", endpoint=server.api).sql(
        "SELECT decision_id, cost_usd, unpriced_reason FROM costs"
    )
    return {row[0]: (row[1] and round(row[1], 9), row[2]) for row in answer["rows"]}


M1 = {"model": "m-1", "input_usd": 2.0, "output_usd": 10.0, "cache_read_usd": 0.5, "cache_write_usd": 2.5}


def test_each_kind_of_token_has_its_price_and_is_counted_once(server, tmp_path):
    plain = decided(server, input_tokens=1_000_000, output_tokens=100_000)
    cached = decided(
        server,
        input_tokens=1_000_000,
        cache_read_tokens=400_000,
        cache_write_tokens=100_000,
        output_tokens=100_000,
        reasoning_tokens=90_000,
    )
    book(server, tmp_path, M1)

    found = costs(server)

    assert found[plain] == (round(2.0 + 1.0, 9), None)
    assert found[cached] == (round(0.5 * 2.0 + 0.4 * 0.5 + 0.1 * 2.5 + 0.1 * 10.0, 9), None)


def test_a_cost_that_cannot_be_told_is_null_and_says_why(server, tmp_path):
    unknown = decided(server, model="m-2", input_tokens=5, output_tokens=5)
    silent = decided(server)
    half = decided(server, input_tokens=5)
    nameless = decided(server, model=None, input_tokens=5, output_tokens=5)
    elsewhere = decided(server, model="m-3", provider="other", input_tokens=5, output_tokens=5)
    book(server, tmp_path, M1, {"model": "m-3", "provider": "acme", "input_usd": 1.0, "output_usd": 1.0})

    found = costs(server)

    assert found[unknown] == (None, "price_unknown")
    assert found[silent] == (None, "usage_unknown")
    assert found[half] == (None, "usage_incomplete")
    assert found[nameless] == (None, "model_unknown")
    assert found[elsewhere] == (None, "price_unknown")
    listed = command(server, "prices", "unpriced", "--json")
    assert listed.returncode == 1
    assert {item["model_name"] for item in json.loads(listed.stdout)} == {"m-2", "m-3"}


def test_the_newest_validity_the_tier_reached_and_the_newest_book_count(server, tmp_path):
    small = decided(server, input_tokens=100, output_tokens=0)
    large = decided(server, input_tokens=1001, output_tokens=0)
    book(
        server,
        tmp_path,
        {"model": "m-1", "input_usd": 1.0, "output_usd": 1.0},
        {"model": "m-1", "input_usd": 2.0, "output_usd": 1.0, "valid_from": "2020-01-01"},
        {"model": "m-1", "input_usd": 9.0, "output_usd": 1.0, "valid_from": "2999-01-01"},
        {
            "model": "m-1",
            "input_usd": 4.0,
            "output_usd": 1.0,
            "valid_from": "2020-01-01",
            "above_input_tokens": 1000,
        },
    )
    assert costs(server) == {
        small: (round(100 * 2e-6, 9), None),
        large: (round(1001 * 4e-6, 9), None),
    }

    book(server, tmp_path, {"model": "m-1", "input_usd": 3.0, "output_usd": 1.0, "valid_from": "2020-01-01"})

    assert costs(server)[small] == (round(100 * 3e-6, 9), None)


@pytest.mark.parametrize(
    ("price", "named"),
    [
        ({"model": "m", "input_usd": -1}, "input_usd"),
        ({"model": "m", "valid_from": "yesterday"}, "valid_from"),
        ({"model": "m", "inputs_usd": 1}, "inputs_usd"),
        ({"input_usd": 1}, "model"),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused_by_its_field(server, tmp_path, price, named):
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"source": "test", "prices": [price]}))

    done = command(server, "prices", "import", str(file))

    assert done.returncode == 2
    assert named in done.stderr


def test_the_public_list_prices_what_is_on_record_and_nothing_else(server):
    known = decided(server, model="gpt-4o-mini", provider="openai", input_tokens=10**6, output_tokens=10**6)
    decided(server, model="no-such-model", provider="openai", input_tokens=1, output_tokens=1)

    done = command(server, "prices", "import", "--list")

    assert done.returncode == 0, done.stderr
    cost, reason = costs(server)[known]
    assert reason is None
    assert cost == round(0.15 + 0.60, 9)
    assert command(server, "prices", "import", "--list").returncode == 2


def test_a_tiered_price_becomes_one_price_per_tier():
    prices = price_lists.prices_of("google", "gemini-2.5-pro")

    assert [price.get("above_input_tokens") for price in prices] == [None, 200_000]
    assert prices[0]["input_usd"] < prices[1]["input_usd"]


def test_a_price_that_depends_on_the_hour_is_left_out():
    assert price_lists.prices_of("deepseek", "deepseek-chat") == []
