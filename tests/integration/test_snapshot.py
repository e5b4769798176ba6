"""A copy of the ledger, taken while it takes more: whole, verifiable, and a ledger of its own."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loopgrid_collector.ledger.snapshot import NAME
from loopgrid_collector.ledger.verify import Verification
from loopgrid_query.cli.app import run
from loopgrid_query.cli.errors import CliError
from loopgrid_query.cli.snapshotting import _unpack
from tests.contract.rest import Api, problem, running_api
from tests.support.ledgers import house


@contextmanager
def recording(api: Api) -> Iterator[list[str]]:
    """Decisions that keep arriving within the block; those acknowledged so far."""
    acknowledged: list[str] = []
    enough = threading.Event()

    def record() -> None:
        while not enough.is_set():
            acknowledged.append(api.record(input="x" * 20_000)["decision_id"])

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield acknowledged
    finally:
        enough.set()
        thread.join()


def url(api: Api) -> str:
    return str(api.client.base_url).rstrip("/")


def test_a_copy_taken_while_decisions_arrive_holds_all_that_was_acknowledged_before(tmp_path, capsys):
    target = tmp_path / "copy.duckdb"
    # A log that is folded into the file at every other commit, so that a copy meets checkpoints.
    with running_api(tmp_path, checkpoint_wal_bytes=100_000) as api, recording(api) as acknowledged:
        while len(acknowledged) < 30:
            api.client.get("/healthz")
        before = list(acknowledged)

        assert run(["snapshot", str(target), "--endpoint", url(api), "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    with house(tmp_path, file="copy.duckdb") as copy:
        kept = {decision_id for (decision_id,) in copy.rows("SELECT decision_id FROM decisions")}
        assert set(before) <= kept <= set(acknowledged)
        assert copy.rows("SELECT max(commit_id) FROM commits") == [(said["commit_id"],)]
        assert copy.broken_evidence() == []


def test_checkpoints_wait_for_a_copy_and_come_after_it(tmp_path):
    with running_api(tmp_path, checkpoint_wal_bytes=1, checkpoint_idle_s=0.01) as api:
        ledger = api.services.snapshots.ledger
        with ledger.copying() as (extent, intact):
            for _ in range(3):
                api.record(input="hello")
            assert ledger.standing().wal_bytes > extent.wal_bytes
            assert (extent.path.stat().st_size, intact()) == (extent.file_bytes, True)

        api.record(input="hello")
        until(lambda: ledger.standing().wal_bytes == 0)


def test_a_file_that_no_server_has_open_is_copied_too(tmp_path):
    with running_api(tmp_path) as api:
        api.record(input="hello")
    target = tmp_path / "copy.duckdb"

    assert run(["snapshot", str(target), "--ledger", str(tmp_path / "ledger.duckdb")]) == 0
    with Verification(target) as verification:
        assert verification.evidence().sound


def test_nothing_that_is_there_is_overwritten(tmp_path, capsys):
    target = tmp_path / "copy.duckdb"
    target.with_name("copy.duckdb.head").write_text("precious")
    with running_api(tmp_path) as api:
        assert run(["snapshot", str(target), "--endpoint", url(api)]) == 2

    assert "is there already" in capsys.readouterr().err
    assert not target.exists()
    assert target.with_name("copy.duckdb.head").read_text() == "precious"


def test_a_snapshot_unpacked_by_tar_is_a_ledger(tmp_path):
    (tmp_path / "copy").mkdir()
    with running_api(tmp_path) as api:
        api.record(input="hello")
        answer = api.client.get("/v1/snapshot")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        tar.extractall(tmp_path / "copy", filter="data")

    with Verification(tmp_path / "copy" / NAME) as verification:
        report = verification.evidence()
    assert (report.sound, str(report.commits)) == (True, answer.headers["loopgrid-commit"])


def test_a_snapshot_wants_an_admins_key(tmp_path):
    with running_api(tmp_path) as api:
        admin = new_key(api, ["admin"])
        reader = new_key(api, ["read"], admin)

        problem(api.client.get("/v1/snapshot"), 401)
        problem(api.client.get("/v1/snapshot", headers=bearer(reader)), 403)
        assert api.client.get("/v1/snapshot", headers=bearer(admin)).status_code == 200


def new_key(api: Api, scopes: list[str], by: str = "") -> str:
    body = {"name": "-".join(scopes), "scopes": scopes}
    made = api.client.post("/v1/keys", json=body, headers=bearer(by) if by else {})
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def until(holds: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(1000):
        if holds():
            return
        tick.wait(0.01)
    raise AssertionError("it never came to hold")


@pytest.mark.parametrize("cut", [100, 5_000, -1600, -2048])
def test_a_stream_that_breaks_off_becomes_no_copy(tmp_path, cut):
    with running_api(tmp_path) as api:
        api.record(input="hello")
        content = api.client.get("/v1/snapshot").content[:cut]
    target = tmp_path / "copy.duckdb"

    with pytest.raises(CliError, match="broke off"):
        _unpack(io.BytesIO(content), target)
