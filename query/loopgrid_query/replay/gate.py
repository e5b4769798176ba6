"""The rule of a gate: what is written, what is wrong with it, and what it comes to. Pure.

    rule       = and-rule { "or" and-rule }
    and-rule   = not-rule { "and" not-rule }
    not-rule   = "not" not-rule | "(" rule ")" | clause
    clause     = term comparison term | flag
    comparison = ">=" | "<=" | ">" | "<" | "==" | "!="
    term       = name | form "(" name ")" | number | number "%"

Names and their units are in ``gate_names``. A rule comes to pass, fail or unknown: what failed or cannot be
compared might have become anything, and where that decides, nobody can say. Unknown is not a pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from loopgrid_query.errors import FieldError, Invalid
from loopgrid_query.nearest import nearest
from loopgrid_query.replay.gate_names import FORMS, NAMES, Unit, Value, unit_of, value_of
from loopgrid_query.report_models import Clause, Gate, GateVerdict, Statistics

MAX_RULE_CHARS: Final = 2000
"""Characters of a rule."""
MAX_DEPTH: Final = 50
"""Levels of parentheses and ``not``."""

_COMPARISONS: Final = (">=", "<=", "==", "!=", ">", "<")
_KEYWORDS: Final = ("and", "or", "not")
_INSTEAD: Final = {
    "&&": "and", "&": "and", "||": "or", "|": "or", "!": "not", "=": "==", "=>": ">=", "=<": "<=", "<>": "!=",
    "≥": ">=", "≤": "<=", "≠": "!=", "AND": "and", "OR": "or", "NOT": "not",
}  # fmt: skip
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)%?)|(?P<word>[^\W\d]\w*)"
    r"|(?P<sign>&&|\|\||>=|<=|==|!=|<>|=>|=<|[()<>=!&|≥≤≠])|(?P<end>$)|(?P<other>.))",
    re.DOTALL,
)


class RuleInvalid(Invalid):
    """A rule cannot be read.

    Attributes:
        rule: the rule as it was given.
        column: where it goes wrong, from 1.
    """

    rule: str = ""
    column: int = 1

    @classmethod
    def at(cls, rule: str, column: int, message: str, suggestion: str | None = None) -> RuleInvalid:
        """What is wrong, and where."""
        found = FieldError("rule", f"column {column}: {message}", suggestion)
        error = cls(str(Invalid.of([found])), [found])
        error.rule, error.column = rule, column
        return error

    def pointed(self) -> str:
        """The rule, and below it a caret at the column: two lines."""
        return re.sub(r"\s", " ", self.rule) + "\n" + " " * (self.column - 1) + "^"


@dataclass(frozen=True, slots=True)
class Term:
    """One side of a comparison: a name in a form, or a number.

    Attributes:
        column: where it begins, from 1.
        name: the name; None for a number.
        form: one of `FORMS`; None where the name stands alone.
        number: the number, a percentage as the share that it is.
        percent: whether the number was written with a percent sign.
    """

    column: int
    name: str | None = None
    form: str | None = None
    number: Fraction = Fraction(0)
    percent: bool = False

    @property
    def unit(self) -> Unit | None:
        """What it is measured in; None for a number."""
        return None if self.name is None else unit_of(self.name, self.form)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A clause. A flag alone is compared with 1."""

    text: str
    left: Term
    sign: str
    right: Term


@dataclass(frozen=True, slots=True)
class Joined:
    """``and`` or ``or`` of several."""

    word: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Negated:
    """``not``."""

    part: Node


Node = Comparison | Joined | Negated


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that has been read."""

    text: str
    node: Node


def parse(text: str) -> Rule:
    """Reads a rule.

    Raises:
        RuleInvalid: it is none; the message names the column, what was expected, and the nearest name.
    """
    if len(text) > MAX_RULE_CHARS:
        raise RuleInvalid.at(text, MAX_RULE_CHARS, f"a rule has at most {MAX_RULE_CHARS} characters")
    return Rule(text.strip(), _Parser(text).rule())


def evaluate(rule: Rule, found: Statistics) -> Gate:
    """What a rule comes to, clause by clause.

    Args:
        rule: the rule.
        found: the numbers that it is held against.
    """
    clauses: list[Clause] = []
    held = _held(rule.node, found, clauses)
    verdict = _VERDICTS[held]
    deciding = [clause for clause in clauses if clause.verdict is verdict] or clauses
    why = "; ".join(f"{clause.text}: {clause.why}" for clause in deciding) + "."
    return Gate(rule=rule.text, verdict=verdict, why=why, clauses=clauses)


_VERDICTS: Final = {True: GateVerdict.PASS, False: GateVerdict.FAIL, None: GateVerdict.UNKNOWN}


def _held(node: Node, found: Statistics, clauses: list[Clause]) -> bool | None:
    """Whether a part of a rule holds, in Kleene's three values; its clauses are told on the way."""
    if isinstance(node, Comparison):
        clause, held = _clause(node, found)
        clauses.append(clause)
        return held
    if isinstance(node, Negated):
        held = _held(node.part, found, clauses)
        return None if held is None else not held
    # Every part is looked at, so that every clause is explained.
    parts = [_held(part, found, clauses) for part in node.parts]
    decides = node.word == "or"
    if decides in parts:
        return decides
    return None if None in parts else not decides


def _clause(node: Comparison, found: Statistics) -> tuple[Clause, bool | None]:
    values = [_value(term, found) for term in (node.left, node.right)]
    held = _compared(node.sign, *values)
    said = " against ".join(
        value.said for term, value in zip((node.left, node.right), values, strict=True) if term.name
    )
    reasons = list(dict.fromkeys(value.why for value in values if value.why))
    why = f"it is {said}"
    if reasons:
        why += f"; {', '.join(reasons)}"
    clause = Clause(text=node.text, column=node.left.column, verdict=_VERDICTS[held], why=why)
    return clause, held


def _value(term: Term, found: Statistics) -> Value:
    if term.name is None:
        return Value(term.number, term.number, "")
    return value_of(term.name, term.form, found)


def _compared(sign: str, left: Value, right: Value) -> bool | None:
    """Whether a comparison holds for all that the values can be; None where it depends."""
    if left.low is None or left.high is None or right.low is None or right.high is None:
        return None
    always = {
        ">": left.low > right.high,
        ">=": left.low >= right.high,
        "<": left.high < right.low,
        "<=": left.high <= right.low,
        "==": left.low == left.high == right.low == right.high,
        "!=": left.low > right.high or left.high < right.low,
    }
    opposite = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}
    if always[sign]:
        return True
    return False if always[opposite[sign]] else None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


class _Parser:
    """One rule, read from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def rule(self) -> Node:
        node = self._any()
        token = self._peek()
        if token.text == ")":
            raise self._wrong(token, "this ) closes nothing")
        if token.kind != "end":
            raise self._unexpected(token, "'and', 'or' or the end")
        return node

    def _any(self) -> Node:
        return self._joined("or", lambda: self._joined("and", self._negation))

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self._take("word", word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def _negation(self) -> Node:
        token = self._peek()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(token, f"a rule nests at most {MAX_DEPTH} levels")
        node: Node
        if self._take("word", "not"):
            node = Negated(self._negation())
        elif self._take("sign", "("):
            node = self._any()
            if not self._take("sign", ")"):
                raise self._unexpected(self._peek(), f"a ) for the ( in column {token.start + 1}")
        else:
            node = self._clause()
        self._depth -= 1
        return node

    def _clause(self) -> Comparison:
        first = self._peek()
        left = self._term()
        token = self._peek()
        if left.unit is Unit.FLAG:
            if token.text in _COMPARISONS:
                raise self._wrong(
                    token, f"{left.name!r} is either so or not; write it alone, or not {left.name}"
                )
            return Comparison(self._since(first), left, "==", Term(left.column, number=Fraction(1)))
        if token.text not in _COMPARISONS:
            raise self._unexpected(token, f"one of {' '.join(_COMPARISONS)}")
        self._next += 1
        right = self._term()
        following = self._peek()
        if following.text in _COMPARISONS:
            raise self._wrong(following, "one comparison a clause; join two with 'and'")
        self._check_units(left, right)
        return Comparison(self._since(first), left, token.text, right)

    def _term(self) -> Term:
        token = self._peek()
        if token.kind == "number":
            self._next += 1
            written = token.text.removesuffix("%")
            is_percent = written != token.text
            number = Fraction(written) / (100 if is_percent else 1)
            return Term(token.start + 1, number=number, percent=is_percent)
        if token.kind != "word" or token.text in _KEYWORDS:
            raise self._unexpected(token, "a name or a number")
        self._next += 1
        if token.text in FORMS:
            return self._formed(token)
        self._check_name(token)
        return Term(token.start + 1, token.text)

    def _formed(self, form: _Token) -> Term:
        if not self._take("sign", "("):
            raise self._unexpected(self._peek(), f"a name in parentheses, as in {form.text}(newly_broken)")
        token = self._peek()
        if token.kind != "word":
            raise self._unexpected(token, "a name")
        self._next += 1
        self._check_name(token)
        if not self._take("sign", ")"):
            raise self._unexpected(self._peek(), f"a ) after {token.text}")
        if unit_of(token.text, form.text) is None:
            having = ", ".join(name for name in NAMES if unit_of(name, form.text) is not None)
            raise self._wrong(token, f"{token.text!r} has no {form.text}(); these have: {having}")
        return Term(form.start + 1, token.text, form.text)

    def _check_name(self, token: _Token) -> None:
        if token.text in NAMES:
            return
        instead = _INSTEAD.get(token.text)
        if instead is not None:
            raise self._wrong(token, f"write {instead!r} for {token.text!r}", instead)
        close = nearest(token.text, [*NAMES, *FORMS])
        help_text = f"did you mean {close!r}?" if close else f"there are {', '.join(NAMES)}"
        raise self._wrong(token, f"there is no name {token.text!r}; {help_text}", close)

    def _check_units(self, left: Term, right: Term) -> None:
        named = [term for term in (left, right) if term.name is not None]
        if not named:
            raise RuleInvalid.at(self._text, left.column, "a clause must name something, as in fixed >= 80%")
        if len(named) > 1:
            if right.unit is Unit.FLAG:
                raise RuleInvalid.at(
                    self._text, right.column, f"{right.name!r} is either so or not; write it alone"
                )
            kinds = {_comparable(left.unit), _comparable(right.unit)}
            if len(kinds) > 1 and left.unit and right.unit:
                raise RuleInvalid.at(
                    self._text,
                    right.column,
                    f"{left.name!r} is {left.unit.value} here and {right.name!r} is {right.unit.value}; "
                    "share() and count() make one of the other",
                )
            return
        self._check_number(named[0], right if named[0] is left else left)

    def _check_number(self, term: Term, number: Term) -> None:
        """A number that no value of the name could be is a mistake about what the name is measured in."""
        value, name = number.number, term.name
        wrong = None
        if term.unit is Unit.COUNT:
            if number.percent or value.denominator != 1:
                among = NAMES[name].among if name else None
                instead = f"; write share({name}) for a share" if among else ""
                wrong = f"{name!r} is a count here, and a count is a whole number{instead}"
            elif value < 0:
                wrong = "a count is never negative"
        elif term.unit is Unit.FLAG:
            wrong = f"{name!r} is either so or not; write it alone, or not {name}"
        else:
            least = -1 if term.unit is Unit.DIFFERENCE else 0
            if not least <= value <= 1:
                kind = term.unit.value if term.unit else ""
                counts = bool(name) and unit_of(str(name), "count") is not None
                instead = f"; write count({name}) for a count, or a percentage" if counts else ""
                wrong = f"{name!r} is {kind} here, from {least} to 1{instead}"
        if wrong is not None:
            raise RuleInvalid.at(self._text, number.column, wrong)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, kind: str, text: str) -> bool:
        token = self._peek()
        found = token.kind == kind and token.text == text
        self._next += found
        return found

    def _since(self, first: _Token) -> str:
        return self._text[first.start : self._tokens[self._next - 1].end]

    def _wrong(self, token: _Token, message: str, suggestion: str | None = None) -> RuleInvalid:
        return RuleInvalid.at(self._text, token.start + 1, message, suggestion)

    def _unexpected(self, token: _Token, expected: str) -> RuleInvalid:
        instead = _INSTEAD.get(token.text)
        if instead is not None:
            return self._wrong(token, f"write {instead!r} for {token.text!r}", instead)
        found = "the rule ends here" if token.kind == "end" else f"{token.text!r} stands here"
        close = nearest(token.text, _KEYWORDS) if token.kind == "word" else None
        hint = f"; did you mean {close!r}?" if close and close != token.text else ""
        return self._wrong(token, f"{found}, where {expected} is expected{hint}", close)


def _comparable(unit: Unit | None) -> Unit | None:
    return Unit.SHARE if unit is Unit.DIFFERENCE else unit


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while True:
        match = _TOKEN.match(text, place)
        # The pattern ends in "any character", or the end: it matches everywhere.
        kind = str(match.lastgroup) if match else "end"
        start, place = match.span(kind) if match else (place, place)
        if kind == "other":
            shown = text[start:place]
            raise RuleInvalid.at(text, start + 1, f"{shown!r} means nothing in a rule")
        yield _Token(kind, text[start:place], start, place)
        if kind == "end":
            return
