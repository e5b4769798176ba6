"""LoopGrid: every AI decision recorded, replayable, correctable.

```python
import loopgrid

SUPPORT = loopgrid.Prompt(
    "support", version="1", template="You are a support agent. Customer says: {message}"
)


@loopgrid.decision("customer_support_reply")
def reply(message: str, *, prompt: loopgrid.Prompt = SUPPORT) -> dict: ...
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopgrid import errors
from loopgrid.attach import attach, extract, in_context, inject
from loopgrid.config import CaptureLimits, DeliveryLimits
from loopgrid.deciding import decide
from loopgrid.decorator import decision
from loopgrid.errors import LoopGridError
from loopgrid.health import health as _health
from loopgrid.prompt import Model, Prompt
from loopgrid.redaction import Redaction
from loopgrid.span import Decision, current
from loopgrid.steps import step, tool
from loopgrid.tracing import configure, flush, recover, shutdown
from loopgrid.version import version

if TYPE_CHECKING:
    from loopgrid.aclient import AsyncLoopGrid
    from loopgrid.client import LoopGrid

    __version__: str

__all__ = [
    "AsyncLoopGrid",
    "CaptureLimits",
    "Decision",
    "DeliveryLimits",
    "LoopGrid",
    "LoopGridError",
    "Model",
    "Prompt",
    "Redaction",
    "__version__",
    "attach",
    "configure",
    "counters",
    "current",
    "decide",
    "decision",
    "errors",
    "extract",
    "flush",
    "in_context",
    "inject",
    "recover",
    "shutdown",
    "step",
    "tool",
]


def counters() -> dict[str, int]:
    """What became of the decisions of this process: started, acknowledged, and every way one was lost.

    Names are those of `loopgrid.health.Count`; zero counters are left out.
    """
    return _health.counters()


def __getattr__(name: str) -> Any:
    # The client needs urllib3, which costs as much to import as the rest; who only decorates does not pay for
    # it.
    if name == "LoopGrid":
        from loopgrid.client import LoopGrid  # noqa: PLC0415

        globals()["LoopGrid"] = LoopGrid
        return LoopGrid
    if name == "AsyncLoopGrid":
        from loopgrid.aclient import AsyncLoopGrid  # noqa: PLC0415

        globals()["AsyncLoopGrid"] = AsyncLoopGrid
        return AsyncLoopGrid
    if name == "__version__":
        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
