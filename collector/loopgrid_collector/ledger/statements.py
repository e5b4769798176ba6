"""The ledger's SQL, read from its ``.sql`` files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def text_of(file: str) -> str:
    """The text of one ``.sql`` file of this package."""
    return resources.files(__package__).joinpath(file).read_text(encoding="utf-8")


def parse(text: str) -> Mapping[str, str]:
    """Named statements of a file in which each begins with ``-- name: <name>``."""
    parts = _NAME.split(text)
    return dict(zip(parts[1::2], (body.strip() for body in parts[2::2]), strict=True))


SCHEMA: Final = text_of("schema.sql")
VIEWS: Final = "\n".join(
    file.read_text(encoding="utf-8")
    for file in sorted(resources.files(__package__).joinpath("views").iterdir(), key=lambda file: file.name)
)
"""The public views and those for the server's own look-ups; later files build on earlier ones."""
OVERLAY: Final = text_of("overlay.sql")
QUERIES: Final = parse(text_of("queries.sql"))
