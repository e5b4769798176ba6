"""The server keeps to what `/openapi.json` says, whatever it is sent."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import openapi_spec_validator
import pytest

from tests.contract.furnished import furnish
from tests.contract.rest import running_api

FUZZER = str(Path(sys.executable).with_name("schemathesis"))
GENERATOR = str(Path(sys.executable).with_name("openapi-python-client"))

CHECKS = ",".join(
    (
        *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
        *("response_schema_conformance", "response_headers_conformance", "negative_data_rejection"),
        *("missing_required_header", "use_after_free"),
    )
)
"""Not among them is that what fits is accepted: a schema cannot say all that makes a request impossible."""

# A fuzzer that may revoke keys ends with none; that of keys is told in test_auth.py.
NOT_ASKED = "^/v1/keys"


def test_the_description_is_one(tmp_path):
    with running_api(tmp_path) as api:
        openapi_spec_validator.validate(api.client.get("/openapi.json").json())


@pytest.mark.slow
def test_every_answer_is_as_described_whatever_is_asked_in_whatever_order(tmp_path):
    with running_api(tmp_path) as api:
        furnish(api)
        made = api.client.post("/v1/keys", json={"name": "fuzzer", "scopes": ["admin"]}).json()
        address = str(api.client.base_url).rstrip("/")
        command = [
            *(FUZZER, "run", f"{address}/openapi.json", "--checks", CHECKS, "--no-color"),
            *("--header", f"Authorization: Bearer {made['key']}", "--exclude-path-regex", NOT_ASKED),
            *("--phases", "examples,fuzzing,stateful", "--generation-deterministic"),
            *("--max-examples", "2", "--no-shrink", "--continue-on-failure", "--workers", "1"),
            *("--request-timeout", "60", "--warnings", "off", "--output-truncate", "false"),
        ]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

        assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr
        assert "Stateful" in ran.stdout
        assert (
            api.client.get("/readyz", headers={"authorization": f"Bearer {made['key']}"}).status_code == 200
        )


def test_a_client_that_is_generated_from_the_description_reads_what_the_server_answers(tmp_path, monkeypatch):
    with running_api(tmp_path) as api:
        decision_id = furnish(api).decisions[0]
        described = tmp_path / "openapi.json"
        described.write_bytes(api.client.get("/openapi.json").content)
        ran = subprocess.run(
            [GENERATOR, "generate", "--path", str(described), "--output-path", "generated", "--meta", "none"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "WARNING" not in ran.stdout, ran.stdout
        assert "Unable to process schema" not in ran.stdout
        monkeypatch.syspath_prepend(str(tmp_path))
        generated = importlib.import_module("generated")
        calls = "generated.api.decisions.decisions_"
        with generated.Client(base_url=str(api.client.base_url).rstrip("/")) as client:
            listed = importlib.import_module(f"{calls}list_decisions").sync(client=client)
            got = importlib.import_module(f"{calls}get").sync(decision_id, client=client)

    assert decision_id in {each.decision_id for each in listed.items}
    assert got.decision_id == decision_id
