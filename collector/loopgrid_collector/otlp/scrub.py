"""Which attributes hold credentials that an instrumentation copied by mistake (ADR 0007). Pure.

Only keys that are known for it are listed: a value that looks like a secret may be what a decision was about.
"""

from __future__ import annotations

import re
from typing import Final

SCRUBBED: Final = "[scrubbed by LoopGrid]"
"""What stands in the ledger in place of the value."""

NOTHING_TO_HIDE: Final = frozenset({"", "None", "null", "{}", SCRUBBED})
"""Values that say that there was nothing."""

_SECRET_KEYS: Final = re.compile(
    # LangSmith copies its settings from the environment.
    r"langsmith\.metadata\.(LANGSMITH|LANGCHAIN)_.*"
    # Old OpenLLMetry sends the headers of the request.
    r"|llm\.headers"
    r"|https?\.request\.header\.(authorization|proxy[-_]authorization|cookie|x[-_]api[-_]key|api[-_]key|x[-_]goog[-_]api[-_]key)"
    r"|http\.response\.header\.set[-_]cookie"
)
_SCOPE_KEYS: Final = frozenset({"public_key"})


def is_secret(key: str) -> bool:
    """Whether an attribute of a span or log record is scrubbed."""
    return _SECRET_KEYS.fullmatch(key) is not None


def is_secret_of_scope(scope: str, key: str) -> bool:
    """Whether an attribute of an instrumentation scope is scrubbed: Langfuse puts its public key there."""
    return key in _SCOPE_KEYS and scope.startswith("langfuse")
