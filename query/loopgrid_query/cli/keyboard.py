"""Single keys of a terminal, and whole lines in between. What is typed ahead is kept."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

_ESCAPE: Final = b"\x1b"
_END: Final = (b"", b"\x04")
_LOCAL_FLAGS: Final = 3
_CONTROL_CHARACTERS: Final = 6
_MAX_SEQUENCE_BYTES: Final = 32


class Keyboard:
    """The terminal on standard input, a key at a time; a context manager, after which it is as it was."""

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._input)

    def __enter__(self) -> Self:
        self._take_keys()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_lines()

    def key(self) -> str:
        """The next key; "" for one that is no character, such as an arrow.

        Raises:
            EOFError: the input has ended.
        """
        first = os.read(self._input, 1)
        if first in _END:
            raise EOFError
        if first == _ESCAPE:
            # The rest of its sequence has come with it.
            if select.select([self._input], [], [], 0)[0]:
                os.read(self._input, _MAX_SEQUENCE_BYTES)
            return ""
        return first.decode("ascii", "ignore")

    @contextmanager
    def lines(self) -> Iterator[None]:
        """Give the terminal back for the length of a block: to a typed line, or to another program."""
        self._take_lines()
        try:
            yield
        finally:
            self._take_keys()

    def _take_lines(self) -> None:
        # Not flushing: what was typed ahead is meant.
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def _take_keys(self) -> None:
        mode = termios.tcgetattr(self._input)
        mode[_LOCAL_FLAGS] &= ~(termios.ECHO | termios.ICANON)
        mode[_CONTROL_CHARACTERS][termios.VMIN] = 1
        mode[_CONTROL_CHARACTERS][termios.VTIME] = 0
        termios.tcsetattr(self._input, termios.TCSADRAIN, mode)
