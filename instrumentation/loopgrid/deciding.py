"""`with loopgrid.decide(…)`: a decision that is a block of code, not a function."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, NoReturn

from opentelemetry.context import Context

from loopgrid.capture import capture
from loopgrid.config import CaptureLimits
from loopgrid.life import Opening
from loopgrid.prompt import Model, Prompt
from loopgrid.schema import Key
from loopgrid.span import ABSENT, Decision, model_attributes, open_decision, prompt_attributes

_HERE: ContextVar[object] = ContextVar("loopgrid-decide", default=None)
"""Set on entry and reset on exit: an exit in another context, by a generator that another task closes, shows
by its failing."""


class Deciding:
    """The block of one decision; made by `decide`."""

    __slots__ = ("_decision", "_decision_type", "_here", "_input", "_model", "_prompt", "_token")

    def __init__(self, decision_type: str, input: object, prompt: Prompt | None, model: Model | None) -> None:  # noqa: A002 - the record's word
        given: object = decision_type
        if not isinstance(given, str) or not given.strip():
            raise TypeError(
                'a decision has a type: write with loopgrid.decide("refund", input=…) as decision:'
            )
        for name, value, kind in (("prompt", prompt, Prompt), ("model", model, Model)):
            if value is not None and not isinstance(value, kind):
                raise TypeError(
                    f"{name} is a loopgrid.{kind.__name__}, not {type(value).__name__}: write "
                    f"{name}=loopgrid.{kind.__name__}(…)"
                )
        self._decision_type = decision_type
        self._input = input
        self._prompt = prompt
        self._model = model
        self._decision: Decision | None = None
        self._token: Token[Context] | None = None
        self._here: Token[object] | None = None

    def __enter__(self) -> Decision:
        """The open decision; set its `output`."""
        if self._decision is not None:
            raise RuntimeError("this block has been entered: call loopgrid.decide(…) anew for each decision")
        self._decision = open_decision(self._decision_type, self._describe)
        self._here = _HERE.set(self)
        self._token = self._decision.enter()
        return self._decision

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the decision: with its output, or with the exception that left the block."""
        decision, here = self._decision, self._here
        if decision is None or here is None:
            return
        try:
            _HERE.reset(here)
        except ValueError:
            # Another task ends it: what is current there is not ours to change.
            pass
        else:
            decision.leave(self._token)
        if isinstance(error, GeneratorExit):
            decision.abandon("closed")
        elif error is not None:
            decision.fail(error)
        else:
            decision.conclude()

    async def __aenter__(self) -> Decision:
        """As `with`: nothing is awaited."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `with`: nothing is awaited."""
        self.__exit__(kind, error, trace)

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Refused: a block is no decorator.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"loopgrid.decide is for a with block: above a def write "
            f"@loopgrid.decision({self._decision_type!r})"
        )

    def _describe(self, limits: CaptureLimits) -> Opening:
        opening = Opening()
        if self._prompt is not None:
            opening.prompt = self._prompt.facts
            opening.attributes.update(prompt_attributes(opening.prompt, limits, opening.losses))
        if self._model is not None:
            model = self._model
            opening.attributes.update(
                model_attributes(model.provider, model.name, model.parameters, limits, opening.losses)
            )
        if self._input is not ABSENT:
            opening.attributes[Key.DECISION_INPUT] = capture(self._input, "input", limits, opening.losses)
        return opening


def decide(
    decision_type: str,
    *,
    input: Any = ABSENT,  # noqa: A002 - the record's word
    prompt: Prompt | None = None,
    model: Model | None = None,
) -> Deciding:
    """Record a block of code as a decision.

    ```python
    with loopgrid.decide("refund", input={"order": "4711"}) as decision:
        decision.output = {"refund": True}
    ```

    The block's exception ends the decision as failed and is raised. Without `output` the record has none.
    Works inside coroutines, too; `async with` means the same.

    Args:
        decision_type: which decision this is; low cardinality.
        input: what it sees; anything.
        prompt: the prompt it uses, where there is one.
        model: the model it asks, where there is one.

    Raises:
        TypeError: an argument is not what it must be.
    """
    return Deciding(decision_type, input, prompt, model)
