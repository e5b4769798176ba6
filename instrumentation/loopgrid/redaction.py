"""What may not leave the process: said by key, by pattern, by callback. `redact` carries it out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from loopgrid.errors import Misconfigured

MIN_CARD_DIGITS: Final = 13
MAX_CARD_DIGITS: Final = 19
_LARGEST_DIGIT: Final = 9


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text that may not leave.

    Attributes:
        name: what it is, as the marker that takes its place says: `[redacted: email]`.
        expression: a regular expression.
        holds: whether what the expression found is meant; by default it always is.
    """

    name: str
    expression: re.Pattern[str]
    holds: Callable[[str], bool] | None = None


def is_card_number(text: str) -> bool:
    """Whether the digits of a text are those of a payment card: 13 to 19, right check digit (Luhn)."""
    digits = [int(character) for character in text if character.isdecimal()]
    if not MIN_CARD_DIGITS <= len(digits) <= MAX_CARD_DIGITS:
        return False
    doubled = (2 * digit for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(one - 9 if one > _LARGEST_DIGIT else one for one in doubled)) % 10 == 0


CREDIT_CARD: Final = Pattern(
    "credit card", re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])"), is_card_number
)
"""Numbers of payment cards, with or without spaces and hyphens, if the check digit is right."""
EMAIL: Final = Pattern(
    "email", re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})\.[A-Za-z]{2,63}")
)
"""E-mail addresses."""
API_KEY: Final = Pattern(
    "api key",
    re.compile(
        r"\b(?:sk-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,}"
        r"|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{35}|hf_[A-Za-z0-9]{30,}"
        r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)"
    ),
)
"""Keys and tokens whose form says what they are: OpenAI, Anthropic, AWS, GitHub, Slack, Google, Hugging Face,
JSON Web Tokens."""

Callback = Callable[[str, Any], Any]
"""Takes a key and a text or number under it, returns what may leave in its place."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is taken out of every span before it leaves this process, whoever made the span.

    Attributes:
        keys: names whose values may not leave: of members of JSON objects at any depth, of metadata, of
            prompt variables, the last part of an attribute key. Case, `_`, `-` and spaces make no
            difference. A name with a dot is a whole attribute key; only so are attributes meant whose name
            is given, such as `service.name`.
        patterns: texts that may not leave, wherever they stand: `EMAIL`, `CREDIT_CARD`, `API_KEY` of
            `loopgrid.redaction`, regular expressions, or a `Pattern`.
        callback: called with every text, number or truth value that is left, and its key: that of the
            attribute, or of the member of the innermost JSON object. What it returns leaves in its place. If
            it raises, the value does not leave.
        max_span_s: seconds one span may take; values that are not looked at by then do not leave. One regular
            expression or callback that runs on is not interrupted.
    """

    keys: Iterable[str] = ()
    patterns: Iterable[str | re.Pattern[str] | Pattern] = ()
    callback: Callback | None = None
    max_span_s: float = 1.0
    compiled: tuple[Pattern, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            Misconfigured: the message says what to write instead.
        """
        for name, value in (("keys", self.keys), ("patterns", self.patterns)):
            if isinstance(value, (str, bytes, re.Pattern, Pattern)):
                raise Misconfigured(f"{name} of a Redaction is a list: write {name}=[{value!r}]")
        keys = tuple(self.keys)
        if not all(type(key) is str and key.strip() for key in keys):
            raise Misconfigured('keys of a Redaction are names: write keys=["password", "iban"]')
        given: object = self.callback
        if given is not None and not callable(given):
            raise Misconfigured(
                f"callback of a Redaction is a function of key and value, not {given!r}: write "
                "callback=lambda key, value: value"
            )
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "patterns", tuple(self.patterns))
        object.__setattr__(
            self, "compiled", tuple(_compiled(index, one) for index, one in enumerate(self.patterns))
        )


def _compiled(index: int, pattern: object) -> Pattern:
    if isinstance(pattern, Pattern):
        return pattern
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        return Pattern("pattern", pattern)
    if not isinstance(pattern, str):
        raise Misconfigured(
            f"patterns[{index}] of a Redaction is {pattern!r}: write a regular expression as text, or "
            "loopgrid.redaction.EMAIL"
        )
    try:
        return Pattern("pattern", re.compile(pattern))
    except re.error as error:
        raise Misconfigured(
            f"patterns[{index}] of a Redaction is no regular expression ({error}): write one like "
            r"r'\bACME-\d{6}\b', or re.escape(text) to mean the text itself"
        ) from error
