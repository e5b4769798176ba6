"""Files, functions and classes stay small enough to be read in one go."""

from __future__ import annotations

import ast

from tests.architecture import source

FILE_LINES = 600
FUNCTION_LINES = 70
CLASS_LINES = 400


def test_no_file_is_longer_than_600_lines():
    files = [*source.package_files(), *(source.REPOSITORY / "tests").rglob("*.py")]
    long = {
        source.name(path): lines
        for path in files
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES
    }

    assert long == {}


def test_no_function_is_longer_than_70_lines():
    long = {
        f"{source.name(path)}:{node.lineno} {node.name}": lines
        for path in source.package_files()
        for node in source.definitions(path, ast.FunctionDef, ast.AsyncFunctionDef)
        if (lines := source.length(node)) > FUNCTION_LINES
    }

    assert long == {}


def test_no_class_is_longer_than_400_lines():
    long = {
        f"{source.name(path)}:{node.lineno} {node.name}": lines
        for path in source.package_files()
        for node in source.definitions(path, ast.ClassDef)
        if (lines := source.length(node)) > CLASS_LINES
    }

    assert long == {}
