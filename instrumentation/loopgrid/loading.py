"""The module that holds decorated functions, imported for them alone."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from loopgrid.errors import Misconfigured
from loopgrid.tracing import unrecorded


def load(module: str) -> ModuleType:
    """Import the module that holds a decorated function, from the working directory too.

    Decorated functions that the module calls on import run and are not recorded.

    Raises:
        Misconfigured: there is no such module, or it fails on import.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with unrecorded():
            found = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name and f"{module}.".startswith(f"{missing.name}."):
            raise Misconfigured(
                f"no module {module!r} here; run this where it can be imported, or set PYTHONPATH."
            ) from missing
        raise Misconfigured(f"{module!r} fails on import: {missing}.") from missing
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        # The user's module may raise anything; whatever it is, it becomes a sentence.
        raise Misconfigured(f"{module!r} fails on import: {type(error).__name__}: {error}.") from error
    if hasattr(found, "__path__") and getattr(found, "__file__", None) is None:
        # Python takes any folder for a package; this one holds no code of that name.
        raise Misconfigured(f"{module!r} is a folder here and no module; run it where the module is.")
    return found
