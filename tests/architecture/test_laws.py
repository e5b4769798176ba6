"""Laws that an import graph cannot see: where SQL, the environment and broad excepts may stand."""

from __future__ import annotations

import ast
import re

from tests.architecture import source

STATEMENT = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|WITH|ATTACH|DETACH|COPY|MERGE|TRUNCATE)\s+[\w\"'(*]"
)
"""A string that begins as an SQL statement does, in capitals, as this house writes SQL."""

SQL_IN_PYTHON = {
    # What somebody would type, shown as it is sent through POST /v1/sql.
    "query/loopgrid_query/cli/demo.py",
    "query/loopgrid_query/cli/demo_samples.py",
    # The example that the API's own documentation shows.
    "query/loopgrid_query/models.py",
    # ATTACH takes path and options as literals, never as parameters; they are quoted there.
    "collector/loopgrid_collector/ledger/opening.py",
}

READS_THE_ENVIRONMENT = re.compile(r"(^|/)(config\.py|cli/.*\.py|cli\.py)$")

HOME_FOLDER = re.compile(r"(?<![\w.])/(home|Users|root|work|opt/pypi)/[\w.]")
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org|registry\.npmjs|proxy\.golang|index-url|find-links")
LINT_CODES = re.compile(r"noqa:?\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*")


def test_sql_statements_stand_in_sql_files_only():
    found = [
        f"{source.name(path)}:{node.lineno}: {node.value.strip()[:60]}"
        for path in source.package_files()
        if source.name(path) not in SQL_IN_PYTHON
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.match(node.value)
        if node not in source.docstrings(path)
    ]

    assert found == []


def test_the_environment_is_read_by_config_modules_and_the_command_line_only():
    """Elsewhere the whole mapping may be handed to a config's `from_env`, and nothing else done with it."""
    names = {"environ", "environb", "getenv"}
    found = []
    for path in source.package_files():
        if READS_THE_ENVIRONMENT.search(source.name(path)):
            continue
        handed_over = {
            argument
            for call in ast.walk(source.tree(path))
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "from_env"
            for argument in call.args
        }
        for node in ast.walk(source.tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in names and node not in handed_over:
                found.append(f"{source.name(path)}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                found += [f"{source.name(path)}:{node.lineno}" for alias in node.names if alias.name in names]

    assert found == []


def test_a_broad_except_raises_again_or_states_its_reason():
    """A boundary may catch everything, if a comment on its line or above it says why it is one."""
    found = []
    for path in source.package_files():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(source.tree(path)):
            if not isinstance(node, ast.ExceptHandler) or isinstance(node.body[-1], ast.Raise):
                continue
            caught = "BaseException" if node.type is None else ast.unparse(node.type)
            if caught not in {"Exception", "BaseException"}:
                continue
            comment = lines[node.lineno - 1].partition("#")[2] + lines[node.lineno - 2].partition("#")[2]
            if len(LINT_CODES.sub("", comment).split()) < len(("a", "few", "words")):
                found.append(f"{source.name(path)}:{node.lineno}")

    assert found == []


def test_the_text_names_no_folder_of_one_machine_and_no_package_registry():
    """The repository must read the same wherever it is cloned and whatever index it installs from."""
    this = source.REPOSITORY / "tests" / "architecture" / "test_laws.py"
    found = [
        f"{source.name(path)}:{number}: {line.strip()[:80]}"
        for path in source.text_files()
        if path != this
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if HOME_FOLDER.search(line) or REGISTRY.search(line)
    ]

    assert found == []


def test_the_words_immutable_and_tamper_proof_are_not_claimed():
    """Whoever can write the file can rewrite it; what we have is append-only and tamper-evident."""
    allowed = {"tests/architecture/test_laws.py"}
    found = [
        f"{source.name(path)}:{number}: {line.strip()[:80]}"
        for path in source.text_files()
        if source.name(path) not in allowed
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"tamper-?proof|\bimmutable\b", line, re.IGNORECASE)
        and "extend-immutable-calls" not in line
    ]

    assert found == []


def test_the_five_top_level_folders_are_no_packages():
    folders = ("instrumentation", "collector", "query", "tests", "examples")

    assert [folder for folder in folders if (source.REPOSITORY / folder / "__init__.py").exists()] == []
