"""A DuckDB in a process of its own, which attaches a live ledger and prints what it gets as JSON.

Arguments: what to attach, an API key, ``--wait`` to go on only after a line of input, and statements.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import duckdb


def main(address: str, key: str, *statements: str) -> None:
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    for name in ("httpfs", "quack"):
        package = importlib.util.find_spec(f"duckdb_extension_{name}")
        if package is None or package.origin is None:
            raise SystemExit(f"the extension {name} is not installed")
        connection.load_extension(str(*Path(package.origin).parent.glob("extensions/*/*.duckdb_extension")))
    answers: list[object] = []
    try:
        connection.execute(f"ATTACH '{address}' AS r (TOKEN '{key}')")
    except duckdb.Error as error:
        print(json.dumps([f"attach: {error}"] * max(1, len(statements))))
        return
    if statements[:1] == ("--wait",):
        print("attached", flush=True)
        sys.stdin.readline()
        statements = statements[1:]
    for statement in statements:
        try:
            answers.append(connection.execute(statement).fetchall())
        except duckdb.Error as error:
            answers.append(str(error))
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
