"""Whatever is done to a decorated generator, it does what the generator alone would have done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import loopgrid
from loopgrid.testing import recorded

BODY = st.lists(
    st.sampled_from(["yield", "catch", "catch all", "raise", "return", "stop", "stubborn"]), max_size=5
)
"""What a generator does, step by step."""
USE = st.lists(st.sampled_from(["next", "send", "throw", "throw base", "close"]), max_size=6)
"""What its consumer does."""


class StopBase(BaseException):
    """What ends programs."""


def body(steps: list[str]) -> Callable[[], Iterator[Any]]:
    def generator() -> Any:
        heard: list[Any] = []
        for number, step in enumerate(steps):
            match step:
                case "yield":
                    heard.append((yield number, tuple(heard)))
                case "catch":
                    try:
                        heard.append((yield number))
                    except LookupError as error:
                        heard.append(str(error))
                case "catch all":
                    try:
                        heard.append((yield number))
                    except BaseException as error:
                        heard.append(type(error).__name__)
                        raise
                case "stubborn":
                    try:
                        yield number
                    except GeneratorExit:
                        return "closed"
                case "raise":
                    raise ValueError(number)
                case "return":
                    return heard
                case "stop":
                    raise StopIteration(number)  # noqa: PLR1708 - wrong on purpose
        return None

    return generator


def async_body(steps: list[str]) -> Callable[[], AsyncIterator[Any]]:
    async def generator() -> Any:
        heard: list[Any] = []
        for number, step in enumerate(steps):
            await asyncio.sleep(0)
            match step:
                case "yield":
                    heard.append((yield number, tuple(heard)))
                case "catch":
                    try:
                        heard.append((yield number))
                    except LookupError as error:
                        heard.append(str(error))
                case "catch all":
                    try:
                        heard.append((yield number))
                    except BaseException as error:
                        heard.append(type(error).__name__)
                        raise
                case "stubborn":
                    try:
                        yield number
                    except GeneratorExit:
                        return
                case "raise":
                    raise ValueError(number)
                case "return":
                    return
                case "stop":
                    raise StopIteration(number)  # noqa: PLR1708 - wrong on purpose

    return generator


def use(generator: Any, actions: list[str]) -> list[Any]:
    seen: list[Any] = []
    for action in actions:
        try:
            match action:
                case "next":
                    seen.append(next(generator))
                case "send":
                    seen.append(generator.send("sent"))
                case "throw":
                    seen.append(generator.throw(LookupError("thrown")))
                case "throw base":
                    seen.append(generator.throw(StopBase("thrown")))
                case "close":
                    seen.append(generator.close())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is compared
            seen.append((type(error), str(error), getattr(error, "value", None), type(error.__cause__)))
    return seen


async def use_async(generator: Any, actions: list[str]) -> list[Any]:
    seen: list[Any] = []
    for action in actions:
        try:
            match action:
                case "next":
                    seen.append(await anext(generator))
                case "send":
                    seen.append(await generator.asend("sent"))
                case "throw":
                    seen.append(await generator.athrow(LookupError("thrown")))
                case "throw base":
                    seen.append(await generator.athrow(StopBase("thrown")))
                case "close":
                    seen.append(await generator.aclose())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is compared
            seen.append((type(error), str(error), type(error.__cause__)))
    await generator.aclose()
    return seen


@given(BODY, USE)
def test_a_decorated_generator_behaves_as_the_generator(steps, actions):
    expected = use(body(steps)(), actions)
    with recorded() as decisions:
        generator = loopgrid.decision("g")(body(steps))()
        seen = use(generator, actions)
        del generator

    assert seen == expected
    assert len(decisions) <= 1
    assert loopgrid.current().decision_id is None


@given(BODY, USE)
def test_a_decorated_async_generator_behaves_as_the_generator(steps, actions):
    expected = asyncio.run(use_async(async_body(steps)(), actions))
    with recorded() as decisions:
        seen = asyncio.run(use_async(loopgrid.decision("g")(async_body(steps))(), actions))

    assert seen == expected
    assert len(decisions) <= 1


@given(BODY, USE)
def test_a_returned_generator_behaves_as_the_generator(steps, actions):
    expected = use(body(steps)(), actions)
    with recorded() as decisions:
        made = body(steps)
        generator = loopgrid.decision("g")(lambda: made())()  # noqa: PLW0108 - a function, no generator
        seen = use(generator, actions)
        del generator

    assert seen == expected
    assert len(decisions) == 1
