"""Whatever is thrown at the doors, the answer is one that the sender can act on, and the server lives."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.attack import fuzz
from tests.contract.doors import running
from tests.support.spans import span, traces


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_and_random_bodies_are_no_reason_for_a_5xx_and_the_next_span_is_stored(tmp_path, seed):
    with running(tmp_path) as doors:
        http = tuple(urlsplit(url).netloc for url in (doors.addresses.otlp_http, doors.addresses.api))
        answers = fuzz.throw_all(fuzz.Doors((http[0], http[1]), doors.addresses.otlp_grpc), 1_600, seed)
        after = doors.post("/v1/traces", traces(span(9_000_001, name="after")))

        assert fuzz.failures(answers) == {}
        assert answers.total() == 1_600
        assert after.status_code == 200
        assert doors.rows("SELECT count(*) FROM spans WHERE name = 'after'") == [(1,)]
        assert doors.count("quarantine") > 0, "bad items among readable ones are kept"
