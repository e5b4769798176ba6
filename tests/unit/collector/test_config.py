"""Settings that cannot be meant are refused at the start, by name."""

from __future__ import annotations

import pytest

from loopgrid_collector.config import CollectorConfig, unknown_variables
from loopgrid_collector.errors import LedgerForeign, LedgerNotWritable, Misconfigured
from loopgrid_collector.ledger.opening import open_ledger


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("LOOPGRID_DUCKDB_MEMORY", "lots", '"1GB"'),
        ("LOOPGRID_DUCKDB_MEMORY", "-1", '"1GB"'),
        ("LOOPGRID_DUCKDB_MEMORY", "80%", '"1GB"'),
        ("LOOPGRID_DUCKDB_THREADS", "0", "greater than 0"),
        ("LOOPGRID_DUCKDB_THREADS", "two", "a whole number"),
        ("LOOPGRID_ROW_GROUP_ROWS", "100", "a multiple of 2048"),
        ("LOOPGRID_MAX_BODY_BYTES", "0", "greater than 0"),
        ("LOOPGRID_MIN_FREE_BYTES", "-1", "0 or more"),
        ("LOOPGRID_SHUTDOWN_GRACE_S", "nan", "0 or more"),
        ("LOOPGRID_FORWARD_TIMEOUT_S", "inf", "greater than 0"),
        ("LOOPGRID_FORWARD_TIMEOUT_S", "soon", "write a number"),
        ("LOOPGRID_ROW_GROUP_ROWS", "3000", "multiple of 2048"),
        ("LOOPGRID_ROW_GROUP_ROWS", str(2**40), "up to 1048576"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_name_and_what_would_be_right(variable, text, said):
    with pytest.raises(Misconfigured, match=variable) as refused:
        CollectorConfig.from_env({variable: text})
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["1GB", "512 MiB", "1.5gb"])
def test_memory_is_written_as_duckdb_reads_it(text, tmp_path):
    config = CollectorConfig(ledger=str(tmp_path / "x.duckdb"), duckdb_memory=text)
    open_ledger(config).connection.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("duckdb_memory", "1KB"), ("duckdb_threads", 2**80)],
)
def test_what_only_duckdb_can_refuse_names_the_variable_too(setting, value, tmp_path):
    config = CollectorConfig(ledger=str(tmp_path / "x.duckdb"), **{setting: value})
    with pytest.raises(Misconfigured, match=f"LOOPGRID_{setting.upper()}"):
        open_ledger(config)


def test_variables_that_nothing_reads_are_told_with_the_nearest_name():
    environ = {
        "LOOPGRID_LEDGR": "x",
        "LOOPGRID_ENDPOINT": "x",
        "LOOPGRID_PORT": "1",
        "LOOPGRID_QQQQQQQQQQQQQQQQ": "",
        "PATH": "",
    }
    assert unknown_variables(environ) == {
        "LOOPGRID_LEDGR": "LOOPGRID_LEDGER",
        "LOOPGRID_QQQQQQQQQQQQQQQQ": None,
    }


def test_an_empty_file_is_no_ledger_and_stays_as_it_is(tmp_path):
    path = tmp_path / "empty.duckdb"
    path.touch()
    with pytest.raises(LedgerForeign, match="an empty file"):
        open_ledger(CollectorConfig(ledger=str(path)))
    assert path.read_bytes() == b""


@pytest.mark.parametrize("name", ["dangling", "x" * 300], ids=["dangling", "too long"])
def test_a_place_where_no_file_can_be_made_is_said_to_be_not_writable(name, tmp_path):
    path = tmp_path / name
    (tmp_path / "dangling").symlink_to(tmp_path / "gone" / "ledger.duckdb")
    with pytest.raises(LedgerNotWritable, match="cannot be written"):
        open_ledger(CollectorConfig(ledger=str(path)))
