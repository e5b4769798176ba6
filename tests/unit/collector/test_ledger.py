"""What the ledger promises: stored once, kept apart when it conflicts, durable, and evident."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.decoding import traces_append
from loopgrid_collector.errors import (
    LedgerForeign,
    LedgerLocked,
    LedgerNewer,
    LedgerNotWritable,
    LedgerShorter,
    Overloaded,
    ShuttingDown,
)
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_collector.ledger.records import Entry, Receipt
from tests.support.ledgers import house
from tests.support.spans import chat, log_record, logs, span, traces


def test_what_is_acknowledged_is_visible_at_once(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        receipt = it.ingest.traces_blocking(traces(chat(1), chat(2)))

        assert Receipt(stored=2, commit_id=1) == receipt
        assert 2 == it.count("decisions")
        assert [] == it.broken_evidence()


def test_the_same_span_again_is_stored_once_and_counted(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        body = traces(chat(1), chat(2))
        it.ingest.traces_blocking(body)

        assert Receipt(duplicates=2) == it.ingest.traces_blocking(body)
        assert Receipt(duplicates=1, stored=1, commit_id=2) == it.ingest.traces_blocking(
            traces(chat(2), chat(3))
        )
        assert 3 == it.count("spans")
        assert 2 == it.count("commits")


def test_the_same_span_twice_in_one_request_is_stored_once(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        assert Receipt(stored=1, duplicates=1, commit_id=1) == it.ingest.traces_blocking(
            traces(chat(1), chat(1))
        )


def test_the_same_ids_with_other_content_are_a_conflict_and_the_first_stands(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(span(1, name="first")))
        other = span(1, name="second", start_time_unix_nano=5)

        receipt = it.ingest.traces_blocking(traces(other))

        assert (0, 1, 0) == (receipt.stored, receipt.conflicts, receipt.rejected)
        assert "other content" in receipt.message
        assert [("first",)] == it.rows("SELECT name FROM spans")
        assert [(other.SerializeToString(),)] == it.rows("SELECT payload FROM conflicts")
        again = it.ingest.traces_blocking(traces(other))
        assert (1, 0) == (again.duplicates, again.conflicts)
        assert 1 == it.count("conflicts")
        assert [] == it.broken_evidence()


def test_a_bad_span_goes_to_quarantine_once_and_its_neighbours_are_stored(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        bad = span(2, trace_id=b"short")
        body = traces(span(1), bad, span(3))

        receipt = it.ingest.traces_blocking(body)
        it.ingest.traces_blocking(body)

        assert (2, 1) == (receipt.stored, receipt.rejected)
        assert "trace_id" in receipt.message
        assert [(bad.SerializeToString(), "invalid")] == it.rows(
            "SELECT payload, reason_code FROM quarantine"
        )
        assert [] == it.broken_evidence()


def test_log_records_are_stored_once(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        body = logs(
            log_record(1), log_record(1, attributes={"a": 1}), log_record(2, trace_id=b"", span_id=b"")
        )

        assert 3 == it.ingest.logs_blocking(body).stored
        assert Receipt(duplicates=3) == it.ingest.logs_blocking(body)
        assert 3 == it.count("events")
        assert [] == it.broken_evidence()


def test_marks_and_corrections_are_appended_and_the_newest_correction_is_the_truth(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        for number, output in enumerate(("first", "second")):
            it.ingest.entry_blocking(
                Entry(f"cor_{number:032x}", "correction", 1, 1, None, "ann", {"output": {"text": output}})
            )
        it.ingest.entry_blocking(Entry("mrk_" + "0" * 32, "mark", 1, 1, None, None, {"reason": "wrong"}))

        assert 2 == it.count("corrections")
        ((truth,),) = it.rows("SELECT output FROM ground_truth")
        assert {"text": "second"} == json.loads(truth)
        assert [(True, True)] == it.rows("SELECT incorrect, corrected FROM decisions")
        assert [] == it.broken_evidence()


def test_many_senders_at_once_each_get_their_own_receipt(tmp_path: Path) -> None:
    bodies = [traces(*(chat(sender * 100 + number) for number in range(1, 21))) for sender in range(16)]
    with house(tmp_path) as it:
        with ThreadPoolExecutor(16) as senders:
            receipts = list(senders.map(it.ingest.traces_blocking, bodies))
            again = list(senders.map(it.ingest.traces_blocking, bodies))

        assert [20] * 16 == [receipt.stored for receipt in receipts]
        assert [20] * 16 == [receipt.duplicates for receipt in again]
        assert 320 == it.count("decisions")
        assert [] == it.broken_evidence()


def test_everything_handed_in_before_closing_is_there_after_reopening(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        futures = [it.ledger.append(traces_append(traces(chat(number)))) for number in range(1, 51)]
    assert [1] * 50 == [future.result(timeout=0).stored for future in futures]

    with house(tmp_path) as it:
        assert 50 == it.count("spans")
        assert [] == it.broken_evidence()


def test_a_span_stored_before_a_restart_is_known_after_it(tmp_path: Path) -> None:
    body = traces(*(chat(2**63 + number) for number in range(1, 6)))
    with house(tmp_path) as it:
        assert 5 == it.ingest.traces_blocking(body).stored

    with house(tmp_path) as it:
        assert 5 == len(it.ledger._opened.known)
        assert Receipt(duplicates=5) == it.ingest.traces_blocking(body)


def test_clients_of_the_sql_door_still_get_ids_as_text_from_arrow(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(chat(1)))
        with it.ledger.cursor() as cursor:
            table = cursor.execute("SELECT trace_id FROM store.spans").to_arrow_table()
    assert "string" == str(table.schema.field("trace_id").type)


def test_after_closing_nothing_is_accepted(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        pass
    with pytest.raises(ShuttingDown):
        it.ingest.traces_blocking(traces(chat(1)))


def test_more_bytes_than_the_budget_are_refused_before_work_is_done(tmp_path: Path) -> None:
    with house(tmp_path, max_queued_bytes=10) as it:
        with pytest.raises(Overloaded):
            it.ingest.traces_blocking(traces(chat(1)))

        assert 0 == it.count("spans")
        assert 0 == it.ingest.counters()["queued_bytes"]


def test_an_empty_request_makes_no_commit(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        assert Receipt() == it.ingest.traces_blocking(b"")
        assert 0 == it.count("commits")


def test_content_that_is_word_for_word_in_an_attribute_is_stored_once(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(chat(1)))

        ((stored, source, shown),) = it.rows(
            "SELECT s.input, s.input_ref, d.input FROM store.spans AS s, decisions AS d"
        )
        assert (None, "gen_ai.input.messages") == (stored, source)
        assert "ticket 1" == json.loads(shown)[0]["parts"][0]["content"]


def test_a_model_call_inside_a_decision_is_its_step_and_not_a_second_decision(tmp_path: Path) -> None:
    decision = span(1, attributes={"loopgrid.decision.type": "reply", "loopgrid.decision.input": "{}"})
    call = chat(2)
    call.trace_id, call.parent_span_id = decision.trace_id, decision.span_id
    tool = span(3, trace_id=decision.trace_id, parent_span_id=call.span_id)
    with house(tmp_path) as it:
        it.ingest.traces_blocking(traces(call, tool))
        assert 1 == it.count("decisions")

        it.ingest.traces_blocking(traces(decision))

        assert [("reply",)] == it.rows("SELECT decision_type FROM decisions")
        assert [("inference", 1), ("other", 2)] == it.rows("SELECT kind, depth FROM steps ORDER BY depth")


def test_running_statements_of_readers_are_ended_and_closed_readers_are_no_trouble(tmp_path: Path) -> None:
    endless = "SELECT count(*) FROM range(100000000) AS a, range(100000000) AS b WHERE a.range + b.range = 7"
    with house(tmp_path) as it, ThreadPoolExecutor(1) as reader:
        with it.ledger.cursor():
            pass
        running = reader.submit(it.rows, endless)
        while not running.done():
            it.ledger.interrupt_readers()

        assert isinstance(running.exception(), duckdb.InterruptException)
        assert 1 == it.ingest.traces_blocking(traces(chat(1))).stored


class TestOpening:
    """A ledger that should not be opened is refused in one sentence, and left alone."""

    def test_another_process_has_it_open(self, tmp_path: Path) -> None:
        path = tmp_path / "test.duckdb"
        with house(tmp_path):
            code = (
                "import sys; from loopgrid_collector.config import CollectorConfig as C;"
                "from loopgrid_collector.ledger.ledger import Ledger; Ledger.open(sys.argv[1], C())"
            )
            other = subprocess.run(
                [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
            )

        assert LedgerLocked.__name__ in other.stderr
        assert "another process" in other.stderr

    def test_it_is_not_a_database(self, tmp_path: Path) -> None:
        (tmp_path / "test.duckdb").write_bytes(b"no database " * 1000)

        with pytest.raises(LedgerForeign, match="not a readable DuckDB file"), house(tmp_path):
            pass

    def test_it_is_a_database_of_something_else(self, tmp_path: Path) -> None:
        with duckdb.connect(tmp_path / "test.duckdb") as other:
            other.execute("CREATE TABLE theirs (a INTEGER)")

        with pytest.raises(LedgerForeign, match="something else"), house(tmp_path):
            pass

        with duckdb.connect(tmp_path / "test.duckdb") as other:
            assert [("theirs",)] == other.execute("SELECT table_name FROM duckdb_tables()").fetchall()

    def test_a_newer_version_wrote_it(self, tmp_path: Path) -> None:
        with house(tmp_path):
            pass
        with duckdb.connect(tmp_path / "test.duckdb") as other:
            other.execute(
                "INSERT INTO store.ledger SELECT ledger_id, 99, views, created_at + INTERVAL 1 HOUR, 'x' "
                "FROM store.ledger"
            )

        with pytest.raises(LedgerNewer, match="upgrade LoopGrid"), house(tmp_path):
            pass

    @pytest.mark.parametrize("place", ["missing/test.duckdb", "."])
    def test_it_cannot_be_written_there(self, tmp_path: Path, place: str) -> None:
        path = str(tmp_path / place)

        with pytest.raises(LedgerNotWritable):
            Ledger.open(path, CollectorConfig(ledger=path))


class TestHead:
    """Attacks on the file as a whole: the head beside it tells."""

    def filled(self, folder: Path, numbers: range) -> None:
        with house(folder) as it:
            for number in numbers:
                it.ingest.traces_blocking(traces(chat(number)))

    def test_rolling_the_ledger_back_to_an_old_copy_is_refused(self, tmp_path: Path) -> None:
        self.filled(tmp_path, range(1, 4))
        old = (tmp_path / "test.duckdb").read_bytes()
        self.filled(tmp_path, range(4, 9))
        (tmp_path / "test.duckdb").write_bytes(old)

        with pytest.raises(LedgerShorter, match="5 records are missing"), house(tmp_path):
            pass

    def test_deleting_the_newest_commits_is_refused(self, tmp_path: Path) -> None:
        self.filled(tmp_path, range(1, 4))
        with duckdb.connect(tmp_path / "test.duckdb") as thief:
            thief.execute(
                "DELETE FROM store.spans WHERE commit_id = 3; DELETE FROM store.commits WHERE commit_id = 3"
            )

        with pytest.raises(LedgerShorter), house(tmp_path):
            pass

    def test_rewriting_the_newest_commit_is_refused(self, tmp_path: Path) -> None:
        self.filled(tmp_path, range(1, 4))
        with duckdb.connect(tmp_path / "test.duckdb") as forger:
            forger.execute("UPDATE store.commits SET chain = '\\x00'::BLOB WHERE commit_id = 3")

        with pytest.raises(LedgerForeign, match="changed from outside"), house(tmp_path):
            pass

    def test_a_missing_ledger_with_a_head_is_refused_and_no_new_one_is_made(self, tmp_path: Path) -> None:
        self.filled(tmp_path, range(1, 4))
        (tmp_path / "test.duckdb").unlink()

        with pytest.raises(LedgerShorter, match="3 records"), house(tmp_path):
            pass
        assert not (tmp_path / "test.duckdb").exists()

    @pytest.mark.parametrize(
        "text", [b"no json", b"\xff", b"{}", b'{"ledger_id":"a","commit_id":"1","records":1,"chain":""}']
    )
    def test_a_damaged_head_is_refused(self, tmp_path: Path, text: bytes) -> None:
        self.filled(tmp_path, range(1, 3))
        (tmp_path / "test.duckdb.head").write_bytes(text)

        with pytest.raises(LedgerForeign, match="damaged"), house(tmp_path):
            pass

    def test_the_head_of_another_ledger_is_refused(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        for folder in (one, two):
            folder.mkdir()
            self.filled(folder, range(1, 3))
        (one / "test.duckdb.head").write_bytes((two / "test.duckdb.head").read_bytes())

        with pytest.raises(LedgerForeign, match="another ledger"), house(one):
            pass

    def test_a_head_older_than_its_ledger_is_normal_and_caught_up(self, tmp_path: Path) -> None:
        self.filled(tmp_path, range(1, 3))
        old = (tmp_path / "test.duckdb.head").read_bytes()
        self.filled(tmp_path, range(3, 5))
        new = (tmp_path / "test.duckdb.head").read_bytes()
        (tmp_path / "test.duckdb.head").write_bytes(old)

        with house(tmp_path) as it:
            assert 4 == it.count("spans")
        assert new == (tmp_path / "test.duckdb.head").read_bytes()

    def test_an_edited_record_no_longer_matches_its_digest(self, tmp_path: Path) -> None:
        self.filled(tmp_path, range(1, 4))
        with duckdb.connect(tmp_path / "test.duckdb") as forger:
            forger.execute("UPDATE store.spans SET attributes = replace(attributes, 'ticket 2', 'ticket 9')")

        with house(tmp_path) as it:
            assert ["spans at 1 does not match its digest"] == it.broken_evidence()
