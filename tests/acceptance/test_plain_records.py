"""A decision of which nothing has been said since is read by a cheaper query, which must answer the same."""

from __future__ import annotations

import pytest

from loopgrid_query.decisions import Decisions
from loopgrid_query.queries import Reader
from tests.support import samples
from tests.support.ledgers import house
from tests.support.spans import log_record, logs, span, traces

ASKED = '[{"role":"user","parts":[{"type":"text","content":"asked in a log"}]}]'


@pytest.fixture(scope="module")
def of_all_samples(tmp_path_factory):
    with house(tmp_path_factory.mktemp("plain")) as it:
        for path in sorted(samples.SAMPLES.rglob("*.pb")):
            take = it.ingest.logs_blocking if "log" in path.name else it.ingest.traces_blocking
            take(path.read_bytes())
        yield it


def test_the_plain_record_of_every_sample_is_its_record(of_all_samples):
    (differing,) = of_all_samples.rows(
        """
        WITH plain AS (
            FROM store.plain_rows AS p
            ANTI JOIN store.said_rows AS said ON said.trace_id = p.trace_key AND said.span_id = p.span_key
            ANTI JOIN store.logged_rows AS logged
              ON logged.trace_key = p.trace_key AND logged.span_key = p.span_key
            WHERE NOT p.says_cost
        )
        SELECT
            (SELECT count(*) FROM plain),
            (SELECT count(*) FROM (
                SELECT * EXCLUDE (trace_key, span_key, says_cost) FROM plain
                EXCEPT SELECT * EXCLUDE (trace_key, span_key, start_key) FROM store.record_rows
            ))
        """
    )
    compared, different = differing
    assert compared > 100
    assert different == 0


def test_the_api_answers_with_the_record_whether_it_is_plain_or_not(of_all_samples):
    api = Decisions(Reader(of_all_samples.ledger), of_all_samples.ingest)
    costs = dict(of_all_samples.rows("SELECT decision_id, cost_usd FROM decisions"))
    assert any(cost is not None for cost in costs.values())
    assert {decision_id: api.get(decision_id)["cost_usd"] for decision_id in costs} == costs


def test_content_that_arrived_in_logs_is_in_the_record(tmp_path):
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.provider.name": "openai"}
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(span(1, attributes=call)))
        api = Decisions(Reader(it.ledger), it.ingest)
        ((decision_id,),) = it.rows("SELECT decision_id FROM decisions")
        assert api.row(decision_id)["input"] is None
        detail = {"gen_ai.input.messages": ASKED}
        it.ingest.logs_blocking(
            logs(log_record(1, event_name="gen_ai.client.inference.operation.details", attributes=detail))
        )
        assert "asked in a log" in api.row(decision_id)["input"]
