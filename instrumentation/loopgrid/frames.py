"""Results of SQL as data frames. The packages that this needs are imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from loopgrid.errors import Invalid, Misconfigured

ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"

_PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "arrow": ("pyarrow",),
    "pandas": ("pyarrow", "pandas"),
    "polars": ("pyarrow", "polars"),
}


def reader(to: str) -> Callable[[bytes], Any]:
    """What makes a data frame of an Arrow stream.

    Args:
        to: `arrow` (`pyarrow.Table`), `pandas` or `polars` (their `DataFrame`).

    Raises:
        Invalid: there is no such kind.
        Misconfigured: a package that it needs is not installed.
    """
    if to not in _PACKAGES:
        raise Invalid(f"to={to!r}: write one of {', '.join(map(repr, _PACKAGES))}")
    modules = []
    for package in _PACKAGES[to]:
        try:
            modules.append(importlib.import_module(package))
        except ModuleNotFoundError as error:
            raise Misconfigured(
                f"to={to!r} needs the package {package}, which is not installed: pip install {package}"
            ) from error
    arrow = importlib.import_module("pyarrow.ipc")

    def read(stream: bytes) -> Any:
        table = arrow.open_stream(stream).read_all()
        if to == "pandas":
            return table.to_pandas()
        return modules[-1].from_arrow(table) if to == "polars" else table

    return read
