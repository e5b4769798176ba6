"""The dialect tables: data that can be checked without a single span."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import loopgrid_collector
from loopgrid import schema
from loopgrid_collector.dialects import catalogue, normalise, parsers
from loopgrid_collector.dialects.catalogue import DIALECTS

SCHEMA_SQL = Path(loopgrid_collector.__file__).parent / "ledger" / "schema.sql"


def mapped_columns(table: str) -> list[str]:
    ddl = SCHEMA_SQL.read_text(encoding="utf-8")
    body = re.search(rf"CREATE TABLE IF NOT EXISTS store\.{table} \((.*?)\n\);", ddl, re.DOTALL)
    assert body
    names = [line.split()[0].strip('"') for line in body[1].splitlines() if re.match(r"\s+[\"a-z]", line)]
    return names[names.index("mapping_version") :]


def test_the_mapping_fills_exactly_the_columns_that_the_table_of_spans_has_for_it():
    assert list(normalise.COLUMNS) == mapped_columns("spans")


def test_dialect_names_are_distinct_and_all_have_a_place_in_the_order_of_names():
    names = [dialect.name for dialect in DIALECTS]

    assert sorted(names) == sorted(catalogue.NAMED_FIRST)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_field_of_a_table_is_a_field_of_the_record(dialect):
    helpers = {"streamed"}
    columns = set(normalise.COLUMNS) | helpers

    assert set(dialect.fields) <= columns
    assert set(dialect.members) <= {"prompt_variables", "model_parameters", "metadata"}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_parser_and_dialect_that_a_table_names_exists(dialect):
    names = {table.name for table in DIALECTS}
    for field, sources in dialect.fields.items():
        known = parsers.LISTS if field in {"finish_reasons", "tags", "lossiness"} else parsers.TEXT
        for source in sources:
            assert source.parser in known
            assert {source.only, *source.unless} - {None} <= names
    for rule in dialect.kinds:
        assert rule.parser in parsers.TEXT
        assert all(value == value.lower() for value in (*rule.kinds, *rule.endings))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_form_of_content_that_a_table_names_exists(dialect):
    forms = {
        "messages",
        "document",
        "events",
        "listed_events",
        "bedrock_events",
        "flattened",
        "openinference",
        "vercel_answer",
    }

    for place in (*dialect.input, *dialect.output, *dialect.raw_input, *dialect.raw_output):
        assert place.form in forms
        assert bool(place.key) + bool(place.prefix) + place.event == 1


def test_the_columns_that_a_client_sees_are_mapped_or_belong_to_the_ledger():
    kept_by_the_ledger = {
        "decision_id",
        "trace_id",
        "span_id",
        "parent_span_id",
        "status",
        "tools",
        "started_at",
        "duration_ms",
        "model_source",
        "usage_source",
        "cost_usd",
        "incorrect",
        "corrected",
        "recorded_at",
        "commit_id",
        "digest",
    }

    missing = {field.column for field in schema.FIELDS} - set(normalise.COLUMNS)

    assert missing <= kept_by_the_ledger
