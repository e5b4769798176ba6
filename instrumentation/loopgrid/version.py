"""The version of this distribution; `pyproject.toml` is its one home."""

from __future__ import annotations

import functools


@functools.cache
def version() -> str:
    """The installed version; `0+unknown` in a source tree that was never installed."""
    # Asked for when the first span is made: reading package metadata costs a sixth of `import loopgrid`.
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version as installed  # noqa: PLC0415

    try:
        return installed("loopgrid")
    except PackageNotFoundError:
        return "0+unknown"
