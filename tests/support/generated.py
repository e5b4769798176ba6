"""Texts in the repository that are derived from code, and the one command that writes them anew.

    python -m tests.support.generated

Tests compare; nothing is rewritten behind anybody's back.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import loopgrid
from loopgrid import schema
from loopgrid_collector.config import ENVIRONMENT_PREFIX, CollectorConfig
from loopgrid_collector.ledger import digest
from loopgrid_collector.ledger.ledger import Ledger
from loopgrid_query import schemas

REPOSITORY = Path(__file__).resolve().parents[2]
DECISION_RECORD = REPOSITORY / "docs" / "spec" / "decision-record.md"
LEDGER = REPOSITORY / "docs" / "spec" / "ledger.md"
SETTINGS = REPOSITORY / "docs" / "settings.md"
SCHEMAS = REPOSITORY / "docs" / "spec" / "schemas"
PUBLIC_NAMES = REPOSITORY / "tests" / "architecture" / "public_names.txt"

_KEY_MEANINGS = {
    "RECORD_VERSION": "version of this page, an int",
    "DECISION_TYPE": "`decision_type`",
    "DECISION_INPUT": "`input`, JSON",
    "DECISION_OUTPUT": "`output`, JSON",
    "DECISION_RETURNED": "what a generator returned after its last chunk, JSON",
    "DECISION_OUTCOME": "what became of it, JSON",
    "DECISION_CONSIDERED": "options it chose from, JSON list",
    "DECISION_NOT_EXECUTED": "actions decided and not taken, JSON list of `action` and `reason`",
    "BUSINESS_KEY_PREFIX": "a business key, one attribute a kind; also in `metadata`",
    "STEP_NAME": "on a step: its name",
    "STEP_INPUT": "on a step: `input`, JSON",
    "STEP_OUTPUT": "on a step: `output`, JSON",
    "STEP_FROM_RECORD": "on a step or tool call that a replay did not make: span of the recorded one",
    "TOOL_EFFECT": "on a tool call: `read`, `idempotent`, `write` or `irreversible`",
    "TOOL_DEFINITIONS": "`tools`, JSON",
    "TOOL_NAME": "on a tool call: name of the tool",
    "TOOL_TYPE": "on a tool call: `function`",
    "TOOL_CALL_ID": "on a tool call: the model's id of the call",
    "TOOL_ARGUMENTS": "on a tool call: `input`, JSON",
    "TOOL_RESULT": "on a tool call: `output`, JSON",
    "OPERATION_NAME": "on a tool call: `execute_tool`",
    "PROMPT_TEMPLATE": "`prompt_template`",
    "PROMPT_RENDERED": "text of the prompt with its variables filled in",
    "PROMPT_ARGUMENT": "parameter of the function that took the prompt",
    "PROMPT_NAME": "`prompt_name`",
    "PROMPT_VERSION": "`prompt_version`",
    "PROMPT_VARIABLE_PREFIX": "`prompt_variables`, one attribute a variable",
    "MODEL_ARGUMENT": "parameter of the function that took the model",
    "MODEL_PARAMETERS": "`model_parameters` that OpenTelemetry does not name, JSON object",
    "PROVIDER_NAME": "`model_provider`",
    "REQUEST_MODEL": "`model_name`",
    "REQUEST_PREFIX": "`model_parameters` that OpenTelemetry names",
    "RESPONSE_MODEL": "`model_response_name`",
    "RESPONSE_ID": "`response_id`",
    "FINISH_REASONS": "`finish_reasons`, list of strings",
    "INPUT_TOKENS": "`input_tokens`, int",
    "OUTPUT_TOKENS": "`output_tokens`, int",
    "CACHE_READ_TOKENS": "`cache_read_tokens`, int",
    "CACHE_WRITE_TOKENS": "`cache_write_tokens`, int",
    "REASONING_TOKENS": "`reasoning_tokens`, int",
    "ERROR_TYPE": "`error_type`",
    "SESSION_ID": "`session_id`",
    "USER_ID": "`user_id`",
    "AGENT_NAME": "`agent_name`",
    "FUNCTION_NAME": "`function`",
    "FUNCTION_SHA256": "SHA-256 of the function's source text, hex",
    "COMMIT": "git commit of the function's source file",
    "COMMIT_DIRTY": "whether tracked files differed from that commit, boolean",
    "PACKAGE_NAME": "distribution the function belongs to",
    "PACKAGE_VERSION": "version of that distribution",
    "TAGS": "`tags`, list of strings",
    "METADATA_PREFIX": "`metadata`, one attribute a fact",
    "LOSSINESS": "`lossiness`, list of strings",
    "PRODUCER_ID": "`producer_id`",
    "PRODUCER_SEQ": "`producer_seq`, int, from 1, without gaps",
    "REPLAY_ID": "`replay_id`",
    "REPLAY_OF": "`replay_of`",
    "LINK_TYPE": "on a span link: `replay_of`",
    "SERVICE_NAME": "`service_name`; an attribute of the resource",
}


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def fields_table() -> str:
    """The fields of the decision record."""
    rows = ((f"`{f.column}`", f"`{f.path}`", f"`{f.sql_type}`", f.meaning) for f in schema.FIELDS)
    return table(("column", "path", "type", "meaning"), rows)


def keys_table() -> str:
    """The attribute keys that carry the decision record.

    Raises:
        KeyError: a key was added to the schema and has no meaning here yet.
    """
    keys = {name: key for name, key in vars(schema.Key).items() if name.isupper()}
    rows = ((f"`{key}{'<name>' if key.endswith('.') else ''}`", _KEY_MEANINGS[n]) for n, key in keys.items())
    return table(("attribute", "carries"), rows)


def forms_table() -> str:
    """Which columns enter a record's digest, and how."""
    rows = (
        (
            f"`store.{form.table}`",
            f"`{form.domain.decode().rstrip()}\\n`",
            ", ".join(f"`{name}`" for name in form.facts),
            ", ".join(f"`{name}`" for name in form.content),
        )
        for form in digest.FORMS
    )
    return table(("table", "domain", "facts f1, f2, …", "content c1, c2, …"), rows)


def settings_table() -> str:
    """The server's settings, with the meanings that their docstring gives."""
    attributes = textwrap.dedent((CollectorConfig.__doc__ or "").partition("Attributes:")[2])
    meanings = dict(re.findall(r"^(\w+): (.*?)(?=^\w+: |\Z)", attributes, re.DOTALL | re.MULTILINE))
    rows = (
        (
            f"`{ENVIRONMENT_PREFIX}{field.name.upper()}`",
            f"`{field.default}`" if field.default != "" else "",
            " ".join(meanings.get(field.name, "as the line above").split()),
        )
        for field in dataclasses.fields(CollectorConfig)
    )
    return table(("variable", "default", "meaning"), rows)


def view_columns() -> list[tuple[str, str, str]]:
    """(view, column, type) of every public view of a new ledger, in order."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(str(Path(folder) / "ledger.duckdb"), CollectorConfig())
        try:
            with ledger.cursor() as cursor:
                return cursor.execute(
                    "SELECT table_name, column_name, data_type FROM duckdb_columns() "
                    "WHERE schema_name = 'main' AND NOT internal AND database_name = current_database() "
                    "ORDER BY table_name, column_index"
                ).fetchall()
        finally:
            ledger.close()


def public_names() -> str:
    """Every name that others may rely on, one a line."""
    names = [f"loopgrid.{name}" for name in sorted(loopgrid.__all__)]
    columns = [f"{view}.{column} {kind}" for view, column, kind in view_columns()]
    return "\n".join([*names, "", *columns]) + "\n"


def schema_files() -> dict[str, str]:
    """The JSON Schemas by the name of their file."""
    return {
        f"{name}.json": json.dumps(dict(document), indent=2, ensure_ascii=False) + "\n"
        for name, document in schemas.documents().items()
    }


def section(text: str, name: str) -> str:
    """What stands between the marks of a generated section."""
    return _pattern(name).search(text)[2]  # type: ignore[index]  # a missing mark must fail


def with_section(text: str, name: str, content: str) -> str:
    """The text with another content between those marks."""
    return _pattern(name).sub(lambda found: f"{found[1]}{content}\n{found[3]}", text)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- generated: {name} -->\n)(.*?)\n?(<!-- end generated -->)", re.DOTALL)


SECTIONS: list[tuple[Path, str, Callable[[], str]]] = [
    (DECISION_RECORD, "fields", fields_table),
    (DECISION_RECORD, "keys", keys_table),
    (LEDGER, "forms", forms_table),
    (SETTINGS, "settings", settings_table),
]


def main() -> None:
    """Write every generated text."""
    for path, name, generate in SECTIONS:
        path.write_text(with_section(path.read_text("utf-8"), name, generate()), "utf-8")
    PUBLIC_NAMES.write_text(public_names(), "utf-8")
    SCHEMAS.mkdir(exist_ok=True)
    files = schema_files()
    for name, text in files.items():
        (SCHEMAS / name).write_text(text, "utf-8")
    for stale in (file for file in SCHEMAS.glob("*.json") if file.name not in files):
        stale.unlink()


if __name__ == "__main__":
    main()
