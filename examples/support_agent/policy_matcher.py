"""A small text policy engine. It is not a language model and does not pretend to be one.

It stands in for one so that the example runs with no account and no network: it reads the policy
lines of the rendered prompt, looks for the one that fits the customer's message, and fills in that
line's answer. The same prompt and message always give the same answer; a changed prompt gives
whatever the changed prompt says.

A policy line reads, in the prompt:

    - When a customer reports <words>, <words> or <words>, do <action> and say "<answer>"
    - In any other case, do <action> and say "<answer>"

One group of <words> fits when each of its words occurs in the message, in any order, after common
endings are cut off. The line whose fitting group has the most words wins; of two alike, the first.

What it cannot do: negation, irony, synonyms that the policy does not list, several wishes at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CUSTOMER_MARKER = "Customer says:"
"""Everything after the first marker is the customer's; a policy line in there is not obeyed."""

_RULE = re.compile(
    r"^- When a customer reports (?P<conditions>.+?), do (?P<action>\w+) and say \"(?P<answer>.+)\"$"
)
_OTHERWISE = re.compile(r"^- In any other case, do (?P<action>\w+) and say \"(?P<answer>.+)\"$")
_SEPARATOR = re.compile(r",\s+or\s+|,\s+|\s+or\s+")
_WORD = re.compile(r"[a-z0-9]+")
_ORDER_NUMBER = re.compile(r"\b[A-Z]-\d{5}\b")
_AMOUNT = re.compile(r"[$€£]\s?\d+(?:[.,]\d{2})?")
_FILLERS = frozenset(
    "a an and are at be been by for from had has have i in is it its me my need of on our something"
    " that the their this to want was we were wish with you your".split()
)
_ENDINGS = ("ing", "ies", "ied", "ed", "es", "ly", "s", "y", "e")
_SHORTEST_STEM = 3


class PolicyError(ValueError):
    """The prompt holds no policy that this engine can follow."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy line: when one of `conditions` fits, `action` and `answer` follow."""

    conditions: tuple[frozenset[str], ...]
    action: str
    answer: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy lines of one prompt, in their order, and what holds where none fits."""

    rules: tuple[Rule, ...]
    otherwise: Rule


def decide(prompt_text: str) -> dict[str, str]:
    """Action and response that the policy in `prompt_text` prescribes for the message in it.

    Raises:
        PolicyError: the prompt has no policy line for "any other case", or no customer message.
    """
    instructions, marker, message = prompt_text.partition(CUSTOMER_MARKER)
    if not marker:
        raise PolicyError(f"the prompt has no line that starts with {CUSTOMER_MARKER!r}; add one.")
    policy = read_policy(instructions)
    words = stems(message)
    best, fitting_words = policy.otherwise, 0
    for rule in policy.rules:
        size = max((len(group) for group in rule.conditions if group <= words), default=0)
        if size > fitting_words:
            best, fitting_words = rule, size
    return {"action": best.action, "response": _fill_in(best.answer, message)}


def read_policy(instructions: str) -> Policy:
    """The policy lines of a prompt.

    Raises:
        PolicyError: no line says what to do in any other case.
    """
    rules: list[Rule] = []
    otherwise: Rule | None = None
    for line in instructions.splitlines():
        if rule := _RULE.match(line.strip()):
            groups = tuple(group for text in _SEPARATOR.split(rule["conditions"]) if (group := stems(text)))
            rules.append(Rule(groups, rule["action"], rule["answer"]))
        elif rule := _OTHERWISE.match(line.strip()):
            otherwise = Rule((), rule["action"], rule["answer"])
    if otherwise is None:
        raise PolicyError(
            'the prompt has no line "- In any other case, do <action> and say "<answer>""; add one.'
        )
    return Policy(tuple(rules), otherwise)


def stems(text: str) -> frozenset[str]:
    """The telling words of a text, lower-case, with common English endings cut off."""
    plain = text.lower().replace("’", "'").replace("can't", "can not").replace("cannot", "can not")
    plain = plain.replace("n't", " not").replace("'s", "")
    return frozenset(_stem(word) for word in _WORD.findall(plain) if word not in _FILLERS)


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            word = word[: -len(ending)]
            break
    # "cancelled" and "cancel", "billed" and "bill" shall meet.
    return word[:-1] if len(word) > _SHORTEST_STEM and word[-1] == word[-2] else word


def _fill_in(answer: str, message: str) -> str:
    order = _ORDER_NUMBER.search(message)
    amount = _AMOUNT.search(message)
    return answer.replace("[order]", f"order {order[0]}" if order else "your order").replace(
        "[amount]", amount[0] if amount else "the amount"
    )
