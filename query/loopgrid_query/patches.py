"""A correction as JSON Patch (RFC 6902) of the recorded output. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jsonpatch
import jsonpointer
import orjson

from loopgrid_query import compare
from loopgrid_query.errors import Conflict, FieldError, Invalid

MAX_OPERATIONS: Final = 200
MAX_RESULT_BYTES: Final = 16 * 2**20
"""What a patched output may take: `copy` in `copy` doubles with every operation."""

_OPERATIONS: Final = ("add", "copy", "move", "remove", "replace", "test")


def applied(patch: Sequence[Mapping[str, Any]], output: Any) -> Any:
    """The output that a patch makes of another one, which stays as it is.

    Args:
        patch: operations, each with ``op``, ``path`` and, as it needs them, ``value`` and ``from``.
        output: the recorded output.

    Raises:
        Conflict: a ``test`` found something else than it states.
        Invalid: an operation is none, or points to nothing; the message counts from 0.
    """
    document = copy.deepcopy(output)
    for number, operation in enumerate(patch):
        place = f"patch.{number}"
        if operation.get("op") not in _OPERATIONS:
            raise Invalid.of([FieldError(f"{place}.op", f"must be one of {', '.join(_OPERATIONS)}")])
        try:
            if operation["op"] == "test":
                _test(operation, document, place)
                continue
            document = jsonpatch.JsonPatch([dict(operation)]).apply(document, in_place=True)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
            raise Invalid.of(
                [FieldError(place, f"cannot be applied to the recorded output: {error}")]
            ) from error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            # What the library meets where a path leads through a value that holds nothing.
            raise Invalid.of([FieldError(place, "cannot be applied to the recorded output")]) from error
        if operation["op"] == "copy" and len(orjson.dumps(document)) > MAX_RESULT_BYTES:
            raise Invalid.of([FieldError(place, f"makes the output larger than {MAX_RESULT_BYTES} bytes")])
    return document


def _test(operation: Mapping[str, Any], document: Any, place: str) -> None:
    if "value" not in operation or not isinstance(operation.get("path"), str):
        raise Invalid.of([FieldError(place, "a test needs a path and a value")])
    found = jsonpointer.JsonPointer(operation["path"]).resolve(document)
    # The library's own test takes true for 1.
    if not compare.same(found, operation["value"]):
        raise Conflict(
            f"{place}: the recorded output has another value at {operation['path']!r} than the test states. "
            "Read the decision again, and make the patch against what it says."
        )
