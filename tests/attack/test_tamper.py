"""Attacks on a closed ledger: each is found, and the first thing that does not fit is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from loopgrid_collector.errors import LedgerForeign, LedgerLocked
from loopgrid_collector.ledger import digest as digests
from loopgrid_collector.ledger import merkle, verify
from loopgrid_collector.ledger.records import Entry
from loopgrid_collector.ledger.verify import Report, Verification
from tests.support.ledgers import house
from tests.support.server import COMMAND
from tests.support.spans import chat, log_record, logs, span, traces

FILE = "test.duckdb"
HEAD = FILE + ".head"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six commits: spans 1–3, 4–6 and 7–9, a log record, a mark, a quarantined span. Twelve records."""
    folder = tmp_path_factory.mktemp("original")
    with house(folder) as it:
        for first in (1, 4, 7):
            it.ingest.traces_blocking(traces(*(chat(number) for number in range(first, first + 3))))
        it.ingest.logs_blocking(logs(log_record(1)))
        it.ingest.entry_blocking(Entry("mrk_" + "0" * 32, "mark", 1, 1, None, "ann", {"reason": "wrong"}))
        it.ingest.traces_blocking(traces(span(1, trace_id=b"short")))
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of it to attack."""
    return Path(shutil.copytree(original, tmp_path / "ledger"))


def looked_at(folder: Path) -> Report:
    with Verification(folder / FILE) as verification:
        return verification.evidence()


def found(folder: Path) -> str:
    """The one sentence."""
    fault = looked_at(folder).fault
    assert fault is not None
    return fault.what


def forge(folder: Path, statements: str, **values: Any) -> None:
    with duckdb.connect(folder / FILE) as forger:
        forger.execute(statements, values or None)


def rechain(folder: Path, first: int = 1) -> None:
    """What a forger who knows the specification does last: make every chain value fit again."""
    with duckdb.connect(folder / FILE) as forger:
        previous = bytes(32)
        rows = forger.execute(
            "SELECT commit_id, first_record, records, root, epoch_us(recorded_at) "
            "FROM store.commits ORDER BY commit_id"
        ).fetchall()
        for commit_id, first_record, records, root, time_us in rows:
            chain = digests.chain(previous, commit_id, first_record, records, root, time_us)
            forger.execute(
                "UPDATE store.commits SET previous = $1, chain = $2 WHERE commit_id = $3",
                [previous, chain, commit_id],
            )
            previous = chain


def reroot(folder: Path, commit_id: int) -> None:
    """The root of one commit, made anew from the digests that stand there."""
    with duckdb.connect(folder / FILE) as forger:
        leaves = forger.execute(
            "SELECT digest FROM store.spans WHERE commit_id = $1 ORDER BY position", [commit_id]
        ).fetchall()
        root = merkle.root([leaf for (leaf,) in leaves])
        forger.execute("UPDATE store.commits SET root = $1 WHERE commit_id = $2", [root, commit_id])


def redigest(folder: Path, position: int) -> None:
    """The digest of one span, made anew from what stands there."""
    names = [*digests.SPANS.facts, *digests.SPANS.content]
    with duckdb.connect(folder / FILE) as forger:
        row = forger.execute(
            f"SELECT salt, {', '.join(names)} FROM store.spans WHERE position = $1", [position]
        ).fetchone()
        assert row is not None
        made = digests.digest(digests.SPANS, dict(zip(names, row[1:], strict=True)), row[0])
        forger.execute("UPDATE store.spans SET digest = $1 WHERE position = $2", [made, position])


def test_a_sound_ledger_is_sound_and_says_how_much_it_holds(folder: Path) -> None:
    report = looked_at(folder)

    assert (12, 6, None, []) == (report.records, report.commits, report.fault, report.notes)
    assert json.loads((folder / HEAD).read_text())["chain"] == report.chain


def test_an_empty_ledger_is_sound(tmp_path: Path) -> None:
    with house(tmp_path):
        pass

    assert looked_at(tmp_path).sound


def test_looking_at_a_ledger_changes_nothing(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    looked_at(folder)

    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


COVERED = [(form.table, name) for form in digests.FORMS for name in (*form.facts, *form.content)]


@pytest.mark.parametrize(("table", "column"), COVERED)
def test_editing_any_covered_column_is_found(folder: Path, table: str, column: str) -> None:
    with duckdb.connect(folder / FILE) as forger:
        ((kind,),) = forger.execute(f"SELECT DISTINCT typeof({column}) FROM store.{table}").fetchall()
        other = {"UUID": "uuid()", "VARCHAR": "'edited'", "BLOB": "'\\x00'::BLOB"}.get(kind, "77")
        ((first,),) = forger.execute(f"SELECT min(position) FROM store.{table}").fetchall()
        forger.execute(f"UPDATE store.{table} SET {column} = {other}")

    fault = looked_at(folder).fault

    assert fault is not None
    assert fault.position == first
    assert "does not match its digest" in fault.what


def test_edit_of_the_content_of_one_record(folder: Path) -> None:
    forge(folder, "UPDATE store.spans SET attributes = replace(attributes, 'ticket 5', 'ticket 9')")

    assert (
        found(folder) == "Record 4 of commit 2, in store.spans, does not match its digest: "
        "what was received, its salt or the digest was edited."
    )


def test_edit_with_a_new_digest(folder: Path) -> None:
    forge(folder, "UPDATE store.spans SET attributes = replace(attributes, 'ticket 5', 'ticket 9')")
    redigest(folder, 4)

    assert found(folder).startswith("Commit 2: the digests of its 3 records do not give its root")


def test_edit_with_a_new_digest_and_root(folder: Path) -> None:
    forge(folder, "UPDATE store.spans SET attributes = replace(attributes, 'ticket 5', 'ticket 9')")
    redigest(folder, 4)
    reroot(folder, 2)

    assert found(folder).startswith("Commit 2: its chain value does not come from")


def test_edit_with_everything_made_anew_but_the_head(folder: Path) -> None:
    forge(folder, "UPDATE store.spans SET attributes = replace(attributes, 'ticket 5', 'ticket 9')")
    redigest(folder, 4)
    reroot(folder, 2)
    rechain(folder)

    assert found(folder).startswith("Commit 6 is not the one that was acknowledged")


def test_delete_of_a_record(folder: Path) -> None:
    forge(folder, "DELETE FROM store.spans WHERE position = 4")

    assert found(folder) == "Record 4 of commit 2 is missing."


def test_delete_of_a_record_with_the_later_ones_moved_up(folder: Path) -> None:
    forge(
        folder,
        "DELETE FROM store.spans WHERE position = 4;"
        "UPDATE store.spans SET position = position - 1 WHERE position > 4",
    )

    assert found(folder).startswith("Record 5 of commit 2, in store.spans, claims to belong to commit 3")


def test_insert_of_a_record_beyond_the_end(folder: Path) -> None:
    forge(
        folder,
        "INSERT INTO store.spans BY NAME SELECT * REPLACE (12 AS position, 7 AS commit_id) "
        "FROM store.spans WHERE position = 0",
    )

    assert found(folder).startswith("store.spans holds a record at position 12, which belongs to no commit")


def test_insert_of_a_record_at_a_place_that_is_taken(folder: Path) -> None:
    forge(folder, "INSERT INTO store.spans SELECT * FROM store.spans WHERE position = 4")

    assert "Record 4 of commit 2, in store.spans, is one of several" in found(folder)


def test_insert_of_a_commit_of_its_own(folder: Path) -> None:
    forge(
        folder,
        "INSERT INTO store.spans BY NAME SELECT * REPLACE (12 AS position, 7 AS commit_id) "
        "FROM store.spans WHERE position = 0;"
        "INSERT INTO store.commits SELECT 7, 12, 1, root, chain, chain, recorded_at "
        "FROM store.commits WHERE commit_id = 6",
    )

    assert found(folder).startswith("Commit 7: its chain value does not come from")


def test_reorder_of_two_records(folder: Path) -> None:
    forge(folder, "UPDATE store.spans SET position = 4 - position WHERE position IN (0, 1, 3, 4)")

    assert found(folder).startswith("Record 0 of commit 1, in store.spans, claims to belong to commit 2")


def test_reorder_of_two_records_of_one_commit(folder: Path) -> None:
    forge(folder, "UPDATE store.spans SET position = 7 - position WHERE position IN (3, 4)")

    assert found(folder).startswith("Commit 2: the digests of its 3 records do not give its root")


def test_swap_of_two_digests(folder: Path) -> None:
    forge(
        folder,
        "UPDATE store.spans AS a SET digest = b.digest FROM store.spans AS b "
        "WHERE a.position IN (3, 4) AND b.position = 7 - a.position",
    )

    assert found(folder).startswith("Record 3 of commit 2, in store.spans, does not match its digest")


def test_swap_of_two_records_with_their_digests_under_other_salts(folder: Path) -> None:
    forge(folder, "UPDATE store.spans SET salt = '\\x01'::BLOB WHERE position = 3")

    assert found(folder).startswith("Record 3 of commit 2, in store.spans, does not match its digest")


def test_a_record_moved_in_time(folder: Path) -> None:
    forge(folder, "UPDATE store.entries SET recorded_at = recorded_at - INTERVAL 1 DAY")

    assert found(folder) == "Record 10 of commit 5, in store.entries, claims another time than its commit."


def test_a_commit_moved_in_time(folder: Path) -> None:
    forge(
        folder,
        "UPDATE store.entries SET recorded_at = recorded_at - INTERVAL 1 DAY;"
        "UPDATE store.commits SET recorded_at = recorded_at - INTERVAL 1 DAY WHERE commit_id = 5",
    )

    assert found(folder).startswith("Commit 5: its chain value does not come from")


def test_delete_of_a_commit_in_the_middle(folder: Path) -> None:
    forge(folder, "DELETE FROM store.commits WHERE commit_id = 2")

    assert found(folder) == "Commit 2 is missing: 3 follows 1."


def test_delete_of_a_commit_with_its_records_and_a_new_chain(folder: Path) -> None:
    forge(
        folder,
        "DELETE FROM store.commits WHERE commit_id = 2; DELETE FROM store.spans WHERE commit_id = 2;"
        "UPDATE store.commits SET commit_id = commit_id - 1, first_record = first_record - 3 "
        "WHERE commit_id > 2",
    )
    for table in ("spans", "logs", "entries", "refused"):
        forge(
            folder,
            f"UPDATE store.{table} SET commit_id = commit_id - 1, position = position - 3 "
            "WHERE commit_id > 2",
        )
    rechain(folder)

    assert found(folder) == (
        "The ledger ends at commit 5 (9 records), but commit 6 (12 records) was acknowledged."
    )


def test_truncate_of_the_newest_commits(folder: Path) -> None:
    for table in ("spans", "logs", "entries", "refused", "commits"):
        forge(folder, f"DELETE FROM store.{table} WHERE commit_id > 4")

    assert found(folder).startswith("The ledger ends at commit 4 (10 records), but commit 6")


def test_truncate_of_the_newest_commit_but_not_of_its_records(folder: Path) -> None:
    forge(folder, "DELETE FROM store.commits WHERE commit_id = 6")

    assert "position 11, which belongs to no commit" in found(folder)


def test_a_table_that_was_dropped(folder: Path) -> None:
    forge(folder, "DROP TABLE store.logs CASCADE")

    assert "After commit 0 the file cannot be read" in found(folder)


def test_rollback_of_the_file_to_an_old_copy(folder: Path) -> None:
    old = (folder / FILE).read_bytes()
    with house(folder) as it:
        it.ingest.traces_blocking(traces(chat(99)))
    (folder / FILE).write_bytes(old)

    assert found(folder).startswith("The ledger ends at commit 6 (12 records), but commit 7 (13 records)")


def test_a_missing_head(folder: Path) -> None:
    (folder / HEAD).unlink()

    assert "the head file is missing" in found(folder)


def test_an_older_head_is_said_and_is_no_fault(folder: Path) -> None:
    old = (folder / HEAD).read_bytes()
    with house(folder) as it:
        it.ingest.traces_blocking(traces(chat(99)))
    (folder / HEAD).write_bytes(old)

    report = looked_at(folder)

    assert report.sound
    assert "attests commit 6 of 7" in report.notes[0]


def test_a_newer_head(folder: Path) -> None:
    head = json.loads((folder / HEAD).read_text())
    (folder / HEAD).write_text(json.dumps(head | {"commit_id": 9, "records": 20}))

    assert "but commit 9 (20 records) was acknowledged" in found(folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"ledger_id": 1}', "\xff"])
def test_a_damaged_head(folder: Path, content: str) -> None:
    (folder / HEAD).write_text(content, encoding="latin-1")

    assert found(folder).startswith("The head file")


def test_the_head_of_another_ledger(folder: Path) -> None:
    head = json.loads((folder / HEAD).read_text())
    (folder / HEAD).write_text(json.dumps(head | {"ledger_id": "0" * 32}))

    assert found(folder) == "The head file belongs to another ledger."


def test_an_edited_derived_column_is_not_covered_and_not_found(folder: Path) -> None:
    """The specification says so: what dialects derive can be made anew from what is covered."""
    forge(folder, "UPDATE store.spans SET model_name = 'another'")

    assert looked_at(folder).sound


def test_a_bit_flipped_anywhere_is_found_or_was_in_a_part_that_holds_nothing(folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    sound = looked_at(folder)
    outcomes = set()
    for place in range(20_000, len(content), 2**17):
        flipped = bytearray(content)
        flipped[place] ^= 1
        (folder / FILE).write_bytes(flipped)
        try:
            report = looked_at(folder)
        except LedgerForeign:
            outcomes.add("refused")
            continue
        if report.sound:
            assert (sound.records, sound.chain) == (report.records, report.chain)
        outcomes.add("sound" if report.sound else "found")

    assert outcomes - {"sound"}


def test_the_first_of_several_faults_is_the_one_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across the windows in which the walk reads."""
    monkeypatch.setattr(verify, "WINDOW_RECORDS", 4)
    forge(
        folder,
        "UPDATE store.spans SET name = 'edited' WHERE position IN (8, 4);"
        "DELETE FROM store.commits WHERE commit_id = 5; DELETE FROM store.logs",
    )

    fault = looked_at(folder).fault

    assert fault is not None
    assert (2, 4) == (fault.commit_id, fault.position)


def counted(producer: str, *numbers: int) -> bytes:
    return traces(
        *(
            span(
                1000 * len(producer) + number,
                attributes={
                    "loopgrid.decision.type": "reply",
                    "loopgrid.producer.id": producer,
                    "loopgrid.producer.seq": number,
                },
            )
            for number in numbers
        )
    )


def test_gaps_are_named_number_by_number_even_if_the_derived_columns_hide_them(tmp_path: Path) -> None:
    with house(tmp_path) as it:
        it.ingest.traces_blocking(counted("whole", 1, 2, 3))
        it.ingest.traces_blocking(counted("holes!", 3, 4, 7, 10))
    forge(tmp_path, "UPDATE store.spans SET producer_id = NULL, producer_seq = NULL")

    with Verification(tmp_path / FILE) as verification:
        producers, gaps = verification.gaps()

    assert 2 == producers
    assert [(1, 2), (5, 6), (8, 9)] == [(gap.first_missing, gap.last_missing) for gap in gaps]
    assert {("holes!", "test-service")} == {(gap.producer_id, gap.service_name) for gap in gaps}


class TestTheCommand:
    """`loopgrid verify`: 0 sound, 1 not sound or not complete, 2 cannot be checked."""

    def run(self, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "verify", "--ledger", str(folder / FILE), *more],
            capture_output=True,
            text=True,
            check=False,
        )

    def test_sound(self, folder: Path) -> None:
        done = self.run(folder)

        assert (0, "") == (done.returncode, done.stderr)
        assert "is sound: 12 records in 6 commits" in done.stdout

    def test_not_sound(self, folder: Path) -> None:
        forge(folder, "DELETE FROM store.spans WHERE position = 4")
        done = self.run(folder, "--json")

        assert 1 == done.returncode
        assert {"what": "Record 4 of commit 2 is missing.", "commit_id": 2, "position": 4} == json.loads(
            done.stdout
        )["fault"]

    def test_not_complete(self, tmp_path: Path) -> None:
        with house(tmp_path) as it:
            it.ingest.traces_blocking(counted("holes", 1, 2, 5))
        done = self.run(tmp_path, "--completeness")

        assert 1 == done.returncode
        assert "test-service, producer holes: 2 missing, number 3–4" in done.stdout
        assert 0 == self.run(tmp_path).returncode

    def test_complete(self, folder: Path) -> None:
        done = self.run(folder, "--completeness", "--json")

        assert 0 == done.returncode
        assert [] == json.loads(done.stdout)["gaps"]

    def test_a_server_has_it_open(self, tmp_path: Path) -> None:
        with house(tmp_path):
            done = self.run(tmp_path)

        assert (2, "") == (done.returncode, done.stdout)
        assert "open in another process" in done.stderr

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            pytest.param(lambda path: None, "There is no ledger", id="absent"),
            pytest.param(lambda path: path.write_bytes(b"no database" * 999), "cannot be read", id="noise"),
            pytest.param(lambda path: duckdb.connect(path).close(), "something else", id="foreign"),
        ],
    )
    def test_it_is_no_ledger(self, tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
        make(tmp_path / FILE)
        done = self.run(tmp_path)

        assert 2 == done.returncode
        assert says in done.stderr


def test_what_cannot_be_checked_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(LedgerForeign):
        Verification(tmp_path / FILE)
    code = (
        "import sys; from pathlib import Path; from loopgrid_collector.ledger.verify import Verification;"
        "Verification(Path(sys.argv[1]))"
    )
    with house(tmp_path):
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / FILE)], capture_output=True, text=True, check=False
        )
    assert LedgerLocked.__name__ in other.stderr
