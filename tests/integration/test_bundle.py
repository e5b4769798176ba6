"""A ledger as a folder of Parquet files: whole, verifiable without a server, and loadable again."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from loopgrid_collector import mapping
from loopgrid_collector.ledger import bundle as bundles
from loopgrid_collector.ledger.renormalise import renormalise
from loopgrid_query.cli.app import run
from tests.contract.rest import running_api
from tests.integration.test_snapshot import recording, url
from tests.support.ledgers import house
from tests.support.spans import chat, traces

VIEWS_OF_A_BUNDLE = ("decisions", "spans", "judgements", "commits", "access_log", "producers", "reviews")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a closed ledger with two decisions, one of them corrected. To be copied by whoever changes it."""
    folder = tmp_path_factory.mktemp("bundle")
    with running_api(folder) as api:
        first = api.record(input="hello")["decision_id"]
        api.record(input={"message": "I was charged twice"}, metadata={"order": "4711"})
        body = {"correction": {"response": "refunded"}, "corrected_by": "dana"}
        assert api.client.post(f"/v1/decisions/{first}/correction", json=body).status_code == 201
    target = folder / "bundle"
    assert (
        run(["snapshot", str(target), "--format", "parquet", "--ledger", str(folder / "ledger.duckdb")]) == 0
    )
    return target


@pytest.fixture
def mine(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that may be changed."""
    return Path(shutil.copytree(bundle, tmp_path / "mine"))


def verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["verify", str(folder), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_bundle_taken_while_decisions_arrive_verifies_and_holds_all_acknowledged_before(tmp_path, capsys):
    target = tmp_path / "bundle"
    with running_api(tmp_path, checkpoint_wal_bytes=100_000) as api, recording(api) as acknowledged:
        while len(acknowledged) < 30:
            api.client.get("/healthz")
        before = list(acknowledged)

        assert run(["snapshot", str(target), "--format", "parquet", "--endpoint", url(api), "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    code, report = verify(target, capsys)
    manifest = json.loads((target / "manifest.json").read_text())
    assert (code, report["sound"], report["files"]) == (0, True, [])
    assert report["commits"] == manifest["commit_id"] == said["commit_id"]
    assert (report["chain"], report["records"]) == (manifest["chain"], manifest["records"])
    kept = {decision_id for (decision_id,) in query(target, "SELECT decision_id FROM decisions")}
    assert set(before) <= kept <= set(acknowledged)


def query(folder: Path, text: str) -> list[tuple[Any, ...]]:
    """What plain DuckDB says with the views that lie in the bundle."""
    with duckdb.connect() as connection:
        connection.execute(f"SET file_search_path = '{folder}'")
        connection.execute((folder / "views.sql").read_text())
        return connection.execute(text).fetchall()


@pytest.mark.parametrize("view", VIEWS_OF_A_BUNDLE)
def test_the_views_of_a_bundle_show_what_those_of_its_ledger_show(bundle, view):
    with house(bundle.parent, file="ledger.duckdb") as ledger:
        expected = ledger.rows(f"FROM {view}")

    assert sorted(map(repr, query(bundle, f"FROM {view}"))) == sorted(map(repr, expected))


def test_the_past_can_be_asked_of_a_bundle(bundle):
    assert query(bundle, "SELECT count(*), count(*) FILTER (corrected) FROM decisions_as_of(1)") == [(1, 0)]
    assert query(bundle, "SELECT count(*), count(*) FILTER (corrected) FROM decisions_as_of(9)") == [(2, 1)]


def stumble(*_: Any) -> None:
    raise KeyError("a mistake in a dialect")


def test_what_a_later_mapping_reads_shows_in_the_views_of_a_bundle(tmp_path, monkeypatch):
    with monkeypatch.context() as broken, house(tmp_path) as it:
        broken.setattr(mapping, "normalise_spans", stumble)
        it.ingest.traces_blocking(traces(chat(1), chat(2)))
    with house(tmp_path) as it:
        assert renormalise(it.ledger).changed == 2
    target, again = tmp_path / "bundle", tmp_path / "again.duckdb"

    source = str(tmp_path / "test.duckdb")
    assert run(["snapshot", str(target), "--format", "parquet", "--ledger", source]) == 0
    assert run(["snapshot", str(again), "--ledger", str(target)]) == 0

    shown = "SELECT decision_id, model_name, input FROM decisions ORDER BY ALL"
    with house(tmp_path) as it:
        expected = it.rows(shown)
    assert len(expected) == 2
    assert query(target, shown) == expected
    with duckdb.connect(again, read_only=True) as plain:
        assert plain.execute(shown).fetchall() == expected


def test_another_reader_of_parquet_finds_ids_times_and_texts_as_documented(bundle):
    spans = parquet.read_table(bundle / "spans.parquet")
    decision_id = query(bundle, "SELECT decision_id FROM decisions ORDER BY recorded_at LIMIT 1")[0][0]

    trace_id, span_id = spans.column("trace_id")[0].as_py(), spans.column("span_id")[0].as_py()
    raw = trace_id.bytes if isinstance(trace_id, uuid.UUID) else trace_id
    assert f"{raw.hex()}-{span_id:016x}" == decision_id
    assert spans.schema.field("recorded_at").type == pa.timestamp("us")
    assert json.loads(spans.column("attributes")[0].as_py())["loopgrid.decision.input"] == '"hello"'
    assert spans.column("position").to_pylist() == sorted(spans.column("position").to_pylist())


def test_a_bundle_becomes_a_ledger_again_that_verifies_and_takes_more(bundle, tmp_path, capsys):
    target = tmp_path / "ledger.duckdb"

    assert run(["snapshot", str(target), "--ledger", str(bundle)]) == 0

    _, before = verify(bundle, capsys)
    code, after = verify(target, capsys)
    assert (code, after["chain"], after["ledger_id"]) == (0, before["chain"], before["ledger_id"])
    assert not (tmp_path / "ledger.duckdb.wal").exists()
    with duckdb.connect(target, read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM decisions").fetchall() == [(2,)]
    with running_api(tmp_path) as api:
        api.record(input="one more")
        assert len(api.client.get("/v1/decisions").json()["items"]) == 3
    code, _ = verify(target, capsys)
    assert code == 0


def test_a_bundle_of_a_bundle_is_the_same_ledger(bundle, tmp_path, capsys):
    target = tmp_path / "second"

    assert run(["snapshot", str(target), "--format", "parquet", "--ledger", str(bundle)]) == 0

    assert verify(target, capsys)[1]["chain"] == verify(bundle, capsys)[1]["chain"]


def test_a_ledger_without_commits_becomes_a_bundle_too(tmp_path, capsys):
    with house(tmp_path, file="empty.duckdb"):
        pass
    target = tmp_path / "bundle"

    source = str(tmp_path / "empty.duckdb")
    assert run(["snapshot", str(target), "--format", "parquet", "--ledger", source]) == 0

    code, report = verify(target, capsys)
    assert (code, report["commits"], report["records"]) == (0, 0, 0)


@pytest.mark.parametrize("name", [*(bundles.file_of(table) for table in bundles.TABLES), "views.sql"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_one_flipped_bit_in_any_file_is_found_and_the_file_named(mine, name, place, capsys):
    content = bytearray((mine / name).read_bytes())
    content[int((len(content) - 1) * place)] ^= 1
    (mine / name).write_bytes(content)

    code, report = verify(mine, capsys)

    assert (code, report["sound"], len(report["files"])) == (1, False, 1)
    assert report["files"][0].startswith(f"{name} is damaged")


def test_every_file_that_is_missing_cut_short_or_too_many_is_named(mine, capsys):
    (mine / "logs.parquet").unlink()
    (mine / "spans.parquet").write_bytes((mine / "spans.parquet").read_bytes()[:-1])
    (mine / "spans2.parquet").write_text("more")

    code, report = verify(mine, capsys)

    assert code == 1
    size = (mine / "spans.parquet").stat().st_size
    assert report["files"] == [
        "logs.parquet is missing.",
        f"spans.parquet is damaged: it has {size} bytes, and had {size + 1}.",
        "spans2.parquet is no file of this bundle.",
    ]
    assert run(["verify", str(mine)]) == 1
    printed = capsys.readouterr().out
    assert all(sentence in printed for sentence in report["files"])


def rewritten(folder: Path, table: str, statement: str) -> None:
    """Replace a table by what a statement makes of it, and say so in the manifest, as a forger would."""
    path, made = folder / bundles.file_of(table), folder / "made"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS FROM read_parquet('{path}')")
        connection.execute(statement)
        connection.execute(f"COPY t TO '{made}' (FORMAT parquet)")
        (rows,) = connection.execute("SELECT count(*) FROM t").fetchone() or (0,)
    made.rename(path)
    restated(folder, table, rows)


def restated(folder: Path, table: str, rows: int) -> None:
    path = folder / bundles.file_of(table)

    def change(manifest: dict[str, Any]) -> None:
        for file in manifest["files"]:
            if file["name"] == path.name:
                file.update(rows=rows, bytes=path.stat().st_size, sha256=bundles.sha256_of(path))

    said_otherwise(folder, change)


def said_otherwise(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("table", "statement", "found"),
    [
        ("spans", "UPDATE t SET attributes = replace(attributes, 'hello', 'hullo') WHERE position = 0",
         "Record 0 of commit 1, in store.spans, does not match its digest"),
        ("entries", "DELETE FROM t WHERE entry_type = 'correction'", "is missing"),
        ("spans", "INSERT INTO t SELECT * FROM t", "is one of several that claim this position"),
        ("commits", "DELETE FROM t WHERE commit_id = (SELECT max(commit_id) FROM t)", "belongs to no commit"),
        ("spans", "ALTER TABLE t DROP COLUMN salt", "cannot be read"),
        ("spans", "UPDATE t SET start_ns = start_ns + 1 WHERE position = 1", "does not match its digest"),
    ],
)  # fmt: skip
def test_a_file_rewritten_together_with_the_manifest_is_found_by_the_digests(
    mine, table, statement, found, capsys
):
    rewritten(mine, table, statement)

    code, report = verify(mine, capsys)

    assert (code, report["files"]) == (1, [])
    assert found in report["fault"]["what"]
    assert run(["snapshot", str(mine.parent / "no.duckdb"), "--ledger", str(mine)]) == 2
    assert not (mine.parent / "no.duckdb").exists()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda said: said.update(ledger_id="0" * 32), "The manifest belongs to another ledger."),
        (lambda said: said.update(chain="0" * 64), "the manifest holds another chain value"),
        (lambda said: said.update(root="0" * 64), "another root"),
        (lambda said: said.update(commit_id=99), "but commit 99"),
        (lambda said: said.update(commit_id=0, records=0, chain="0" * 64), "names commit 0"),
        (lambda said: said["files"][-2].update(rows=7), "does not hold the 7 rows"),
    ],
)
def test_a_manifest_that_says_something_else_than_the_files_is_found(mine, change, found, capsys):
    said_otherwise(mine, change)

    code, report = verify(mine, capsys)

    assert code == 1
    assert found in report["fault"]["what"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda said: said["files"].pop(), "The manifest does not name views.sql."),
        (lambda said: said["files"].append(said["files"][0]), "The manifest names ledger.parquet twice."),
        (lambda said: said["files"][0].update(name="../ledger.parquet"), "which no bundle holds"),
    ],
)
def test_a_manifest_that_names_other_files_is_found(mine, change, found, capsys):
    said_otherwise(mine, change)

    code, report = verify(mine, capsys)

    assert code == 1
    assert any(found in file for file in report["files"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "holds no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 200_000), "is damaged"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff"), "is damaged"),
        (lambda folder: said_otherwise(folder, lambda said: said.pop("chain")), "is damaged"),
        (lambda folder: said_otherwise(folder, lambda said: said.update(records="3")), "is damaged"),
        (lambda folder: said_otherwise(folder, lambda said: said.update(schema_version=2)), "newer version"),
        (
            lambda folder: said_otherwise(folder, lambda said: said.update(format="cards")),
            "not a 'loopgrid-parquet'",
        ),
    ],
)
def test_a_folder_without_a_manifest_that_can_be_read_cannot_be_checked(mine, change, told, capsys):
    change(mine)

    assert run(["verify", str(mine)]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_is_no_parquet_cannot_be_checked_and_nothing_is_made_of_it(mine, tmp_path, capsys):
    (mine / "spans.parquet").write_text("no table")
    restated(mine, "spans", 2)

    assert run(["verify", str(mine)]) == 2
    assert "does not hold the tables of a ledger" in capsys.readouterr().err
    assert run(["snapshot", str(tmp_path / "no.duckdb"), "--ledger", str(mine)]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}


def test_nothing_is_made_of_a_bundle_that_lacks_a_file(mine, tmp_path, capsys):
    (mine / "logs.parquet").unlink()

    assert run(["snapshot", str(tmp_path / "no.duckdb"), "--ledger", str(mine)]) == 2
    assert "logs.parquet is missing" in capsys.readouterr().err
    assert not (tmp_path / "no.duckdb").exists()


def test_a_folder_that_is_there_is_left_alone(bundle, tmp_path, capsys):
    target = tmp_path / "bundle"
    target.mkdir()

    source = str(bundle.parent / "ledger.duckdb")
    assert run(["snapshot", str(target), "--format", "parquet", "--ledger", source]) == 2
    assert "is there already" in capsys.readouterr().err
    assert list(target.iterdir()) == []


def test_a_quote_in_the_name_of_a_folder_is_part_of_the_name(bundle, tmp_path, capsys):
    folder = tmp_path / "dana's"
    folder.mkdir()
    target = folder / "bundle"

    source = str(bundle.parent / "ledger.duckdb")
    assert run(["snapshot", str(target), "--format", "parquet", "--ledger", source]) == 0
    assert verify(target, capsys)[0] == 0


def test_what_never_came_is_counted_in_a_bundle_too(bundle, capsys):
    assert run(["verify", str(bundle), "--completeness"]) == 0
    assert "Nothing is missing" in capsys.readouterr().out


def test_a_path_is_given_once(bundle, capsys):
    assert run(["verify", str(bundle), "--ledger", str(bundle)]) == 2
    assert "exclude each other" in capsys.readouterr().err
