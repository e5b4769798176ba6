"""The repository's text and syntax, read once, for the architecture's claims."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {
    "loopgrid": REPOSITORY / "instrumentation" / "loopgrid",
    "loopgrid_collector": REPOSITORY / "collector" / "loopgrid_collector",
    "loopgrid_query": REPOSITORY / "query" / "loopgrid_query",
}
_NOT_OURS = {".git", ".venv", "data", "dist", "build", "__pycache__"}
_TEXT = {".py", ".sql", ".md", ".toml", ".cfg", ".ini", ".yml", ".yaml", ".txt", ".html", ".sh", ""}


def package_files() -> list[Path]:
    """Every Python file of the three packages."""
    return sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))


def text_files() -> list[Path]:
    """Every text file of the repository except captured data."""
    found = []
    for path in REPOSITORY.rglob("*"):
        inside = path.relative_to(REPOSITORY).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in inside[:-1])
        if path.is_file() and not hidden and not _NOT_OURS.intersection(inside) and path.suffix in _TEXT:
            found.append(path)
    return sorted(found)


def name(path: Path) -> str:
    """The file's path inside the repository."""
    return path.relative_to(REPOSITORY).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def definitions(path: Path, *kinds: type[ast.AST]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Functions or classes of a file, at any depth."""
    for node in ast.walk(tree(path)):
        if isinstance(node, kinds):
            yield node  # type: ignore[misc]  # `kinds` are the definition nodes


def length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Lines of a definition from its `def` or `class` to its end, docstring excluded."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def docstrings(path: Path) -> set[ast.Constant]:
    """The constants of a file that are docstrings, of attributes too, and not values."""
    return {
        node.value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
