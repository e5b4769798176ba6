"""The import laws of the house, and what an application gets when it says `import loopgrid`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import grimp

from tests.architecture import source

HEAVY = {"duckdb", "fastapi", "grpc", "numpy", "ptars", "pyarrow", "starlette", "typer", "uvicorn"}

# The web is spoken here and nowhere else in loopgrid_query.
WEB_ROOMS = ("loopgrid_query.app", "loopgrid_query.routes", "loopgrid_query.problems", "loopgrid_query.cli")


def test_every_import_contract_of_pyproject_holds():
    command = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [command, "--no-cache"], cwd=source.REPOSITORY, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_loopgrid_imports_nothing_heavy():
    program = "import sys, json, loopgrid; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in json.loads(result.stdout)}

    assert imported & HEAVY == set()


def test_domain_modules_of_the_query_package_know_no_web_framework():
    graph = grimp.build_graph("loopgrid_query", include_external_packages=True)
    speaking = {
        module
        for module in graph.modules
        if module.startswith("loopgrid_query") and not module.startswith(WEB_ROOMS)
        for imported in graph.find_modules_directly_imported_by(module)
        if imported in {"fastapi", "starlette"}
    }

    assert speaking == set()


def test_only_the_ledger_and_what_reads_it_import_duckdb():
    """Writing happens in the ledger package alone; query modules get a cursor from it."""
    graph = grimp.build_graph("loopgrid_collector", include_external_packages=True)
    writers = {
        module
        for module in graph.modules
        if module.startswith("loopgrid_collector")
        and "duckdb" in graph.find_modules_directly_imported_by(module)
        and not module.startswith("loopgrid_collector.ledger")
    }

    assert writers == set()
