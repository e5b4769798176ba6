"""What a function returns before it is there: streams, iterators, coroutines and futures.

A returned stream is handed on inside a proxy that stands for it: `isinstance`, attributes, iteration, `with`,
`async with` and `close` are the stream's own. The record ends when the stream is used up, fails, is closed,
or is referred to no more. Whoever needs the very object says `stream=False` (docs/adr/0010).
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from typing import Any, Final

from loopgrid.chunks import Chunks
from loopgrid.health import Count
from loopgrid.life import ABANDONED, CLOSED_EARLY, Life, guarded

_PLAIN: Final[frozenset[type]] = frozenset(
    {type(None), bool, int, float, str, bytes, dict, list, tuple, set, frozenset}
)
_FUTURES: Final = frozenset(
    {("asyncio.futures", "Future"), ("_asyncio", "Future"), ("concurrent.futures._base", "Future")}
)
_LAZY: Final = ("__next__", "__anext__")
_ITERABLE: Final = ("__iter__", "__aiter__", "__enter__", "__aenter__")


class Following:
    """The record that follows one stream to its end."""

    __slots__ = ("chunks", "life", "proxies")

    def __init__(self, life: Life, chunks: Chunks) -> None:
        self.life = life
        self.chunks = chunks
        self.proxies = 0

    def add(self, chunk: object) -> None:
        """One more chunk has come."""
        if self.life.recording:
            guarded(Count.OUTPUT_FAILED, self.chunks.add, chunk)

    def close(self) -> None:
        """It was closed by whoever used it."""
        self.life.abandon(CLOSED_EARLY, self.chunks)


def is_proxy(value: object) -> bool:
    """Whether a value stands for a stream that a decorated function returned."""
    return issubclass(type(value), StreamProxy)


def is_stream(output: Any, *, asked: bool) -> bool:
    """Whether what was returned is still to come.

    Args:
        output: what was returned.
        asked: the decorator was told that it is a stream.
    """
    kind = type(output)
    if kind in _PLAIN:
        return False
    if any(hasattr(kind, name) for name in _LAZY):
        # An open file is an iterator of its lines, and is handed on to be read by its descriptor.
        return not issubclass(kind, io.IOBase)
    return (
        inspect.iscoroutine(output)
        or _is_future(output)
        or (asked and any(hasattr(kind, name) for name in _ITERABLE))
    )


def followed(output: Any, following: Following) -> Any:
    """What to hand on in place of a stream, so that its end ends the record."""
    if inspect.iscoroutine(output):
        return _awaited(output, following.life)
    if _is_future(output):
        output.add_done_callback(lambda future: _settled(future, following.life))
        return output
    return _proxy(output, following)


def _is_future(output: Any) -> bool:
    # By name: whoever has made one has imported its module, which is not imported for this.
    return hasattr(type(output), "add_done_callback") and any(
        (base.__module__, base.__name__) in _FUTURES for base in type(output).__mro__
    )


async def _awaited(coroutine: Any, life: Life) -> Any:
    token = life.enter()
    try:
        output = await coroutine
    except BaseException as error:
        life.leave(token)
        life.fail(error)
        raise
    life.leave(token)
    life.succeed(output)
    return output


def _settled(future: Any, life: Life) -> None:
    try:
        output = future.result()
    except BaseException as error:  # noqa: BLE001 - the future's failure or cancellation, raised for whoever asks
        life.fail(error)
    else:
        life.succeed(output)


class StreamProxy:
    """Stands for a stream that a decorated function returned."""

    __slots__ = ("__weakref__", "loopgrid_following", "loopgrid_stream")

    loopgrid_following: Following
    loopgrid_stream: Any

    def __getattr__(self, name: str) -> Any:
        stream, following = self.loopgrid_stream, self.loopgrid_following
        value = getattr(stream, name)
        if name in {"close", "aclose"}:
            return _closing(value, following)
        if name in {"send", "throw", "asend", "athrow"}:
            return _stepping(value, following)
        if type(value) not in _PLAIN and guarded(Count.OUTPUT_FAILED, is_stream, value, asked=False):
            if inspect.iscoroutine(value) or _is_future(value):
                return value
            # Another way to the same stream, such as the text of a stream of messages.
            return _proxy(value, following)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.loopgrid_stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.loopgrid_stream, name)

    def __dir__(self) -> list[str]:
        return dir(self.loopgrid_stream)

    def __repr__(self) -> str:
        return repr(self.loopgrid_stream)

    def __eq__(self, other: object) -> bool:
        return bool(self.loopgrid_stream == _unwrapped(other))

    def __hash__(self) -> int:
        return hash(self.loopgrid_stream)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.loopgrid_stream.__reduce_ex__(protocol)

    def __del__(self) -> None:
        following = self.loopgrid_following
        following.proxies -= 1
        if following.proxies <= 0:
            following.life.abandon(ABANDONED, following.chunks)


def _iter(self: StreamProxy) -> Any:
    return _same_or_followed(self, iter(self.loopgrid_stream))


def _aiter(self: StreamProxy) -> Any:
    return _same_or_followed(self, aiter(self.loopgrid_stream))


def _next(self: StreamProxy) -> Any:
    return _step(self.loopgrid_following, self.loopgrid_stream.__next__)


async def _anext(self: StreamProxy) -> Any:
    return await _async_step(self.loopgrid_following, self.loopgrid_stream.__anext__)


def _enter(self: StreamProxy) -> Any:
    following = self.loopgrid_following
    return _same_or_followed(self, _inside(following, self.loopgrid_stream.__enter__))


def _exit(self: StreamProxy, kind: Any, error: Any, trace: Any) -> Any:
    following = self.loopgrid_following
    answer = _inside(following, self.loopgrid_stream.__exit__, kind, error, trace)
    _left(following, error)
    return answer


async def _aenter(self: StreamProxy) -> Any:
    following = self.loopgrid_following
    return _same_or_followed(self, await _inside_async(following, self.loopgrid_stream.__aenter__))


async def _aexit(self: StreamProxy, kind: Any, error: Any, trace: Any) -> Any:
    following = self.loopgrid_following
    answer = await _inside_async(following, self.loopgrid_stream.__aexit__, kind, error, trace)
    _left(following, error)
    return answer


def _plainly(name: str) -> Callable[..., Any]:
    def method(self: StreamProxy, *args: Any) -> Any:
        return getattr(self.loopgrid_stream, name)(*args)

    return method


_METHODS: Final[dict[str, Callable[..., Any]]] = {
    "__iter__": _iter,
    "__next__": _next,
    "__aiter__": _aiter,
    "__anext__": _anext,
    "__enter__": _enter,
    "__exit__": _exit,
    "__aenter__": _aenter,
    "__aexit__": _aexit,
    **{name: _plainly(name) for name in ("__len__", "__bool__", "__getitem__", "__contains__", "__call__")},
}

_proxy_types: Final[dict[type, type[StreamProxy]]] = {}
MAX_PROXY_TYPES: Final = 1000
"""Types of streams whose proxy type is remembered."""


def _proxy(stream: Any, following: Following) -> StreamProxy:
    kind = type(stream)
    proxy_type = _proxy_types.get(kind)
    if proxy_type is None:
        # Python looks these up on the type: a proxy has those that its stream has, and no others.
        methods: dict[str, Any] = {name: method for name, method in _METHODS.items() if hasattr(kind, name)}
        claimed = {"__slots__": (), "__class__": property(lambda self: type(self.loopgrid_stream))}
        proxy_type = type(kind.__name__, (StreamProxy,), methods | claimed | {"__doc__": kind.__doc__})
        if len(_proxy_types) < MAX_PROXY_TYPES:
            _proxy_types[kind] = proxy_type
    proxy = proxy_type.__new__(proxy_type)
    object.__setattr__(proxy, "loopgrid_stream", stream)
    object.__setattr__(proxy, "loopgrid_following", following)
    following.proxies += 1
    return proxy


def _unwrapped(value: object) -> object:
    return value.loopgrid_stream if is_proxy(value) else value  # type: ignore[attr-defined]


def _same_or_followed(proxy: StreamProxy, given: Any) -> Any:
    """The proxy itself where the stream gave itself; else another proxy of the same record."""
    if given is proxy.loopgrid_stream:
        return proxy
    if type(given) in _PLAIN:
        return given
    return _proxy(given, proxy.loopgrid_following)


def _step(following: Following, call: Callable[..., Any], *args: Any) -> Any:
    life = following.life
    token = life.enter()
    try:
        chunk = call(*args)
    except StopIteration as stop:
        life.pause(token)
        life.complete(following.chunks, stop.value)
        raise
    except BaseException as error:
        life.pause(token)
        _failed(following, error)
        raise
    life.pause(token)
    following.add(chunk)
    return chunk


async def _async_step(following: Following, call: Callable[..., Any], *args: Any) -> Any:
    life = following.life
    token = life.enter()
    try:
        chunk = await call(*args)
    except StopAsyncIteration:
        life.pause(token)
        life.complete(following.chunks)
        raise
    except BaseException as error:
        life.pause(token)
        _failed(following, error)
        raise
    life.pause(token)
    following.add(chunk)
    return chunk


def _failed(following: Following, error: BaseException) -> None:
    if isinstance(error, GeneratorExit):
        following.close()
    else:
        following.life.fail(error, following.chunks)


def _inside(following: Following, call: Callable[..., Any], *args: Any) -> Any:
    """A call that belongs to the stream and is no chunk."""
    life = following.life
    token = life.enter()
    try:
        answer = call(*args)
    except BaseException as error:
        life.pause(token)
        life.fail(error, following.chunks)
        raise
    life.pause(token)
    return answer


async def _inside_async(following: Following, call: Callable[..., Any], *args: Any) -> Any:
    life = following.life
    token = life.enter()
    try:
        answer = await call(*args)
    except BaseException as error:
        life.pause(token)
        life.fail(error, following.chunks)
        raise
    life.pause(token)
    return answer


def _left(following: Following, error: BaseException | None) -> None:
    """The `with` block that used the stream has ended."""
    if error is not None and not isinstance(error, GeneratorExit):
        following.life.fail(error, following.chunks)
    else:
        following.close()


def _closing(close: Callable[..., Any], following: Following) -> Callable[..., Any]:
    def closed(*args: Any, **kwargs: Any) -> Any:
        answer = close(*args, **kwargs)
        if inspect.isawaitable(answer):
            return _closed_when_awaited(answer, following)
        following.close()
        return answer

    return closed


async def _closed_when_awaited(closing: Any, following: Following) -> Any:
    answer = await closing
    following.close()
    return answer


def _stepping(method: Callable[..., Any], following: Following) -> Callable[..., Any]:
    def step(*args: Any) -> Any:
        if method.__name__ in {"asend", "athrow"}:
            return _async_step(following, method, *args)
        return _step(following, method, *args)

    return step
