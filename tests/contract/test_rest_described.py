"""The server keeps to what `/openapi.json` says, whatever it is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import openapi_spec_validator
import pytest

from tests.contract.furnished import furnish
from tests.contract.rest import running_api

FUZZER = str(Path(sys.executable).with_name("schemathesis"))

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


def test_names_are_such_as_a_generated_client_can_use(tmp_path):
    with running_api(tmp_path) as api:
        described = api.client.get("/openapi.json").json()
    operations = [
        operation["operationId"]
        for path in described["paths"].values()
        for method, operation in path.items()
        if method in {"get", "post", "put", "delete", "patch"}
    ]

    # Two classes of one name get the names of their modules, which generators trip over.
    assert [name for name in described["components"]["schemas"] if "__" in name] == []
    assert len(set(operations)) == len(operations)
    assert {"decisions_get", "replay_request_replay", "schemas_schema"} <= set(operations)
    assert [name for name in operations if "_v1_" in name] == []


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
