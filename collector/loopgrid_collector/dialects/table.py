"""What a dialect table is made of.

A dialect is data: where each field of the decision record may stand, which values name which kind,
and which keys hold content. Everything that runs is in ``columns``, ``content`` and ``recognise``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from loopgrid.schema import Kind

REQUEST_CONTENT: Final = frozenset({"messages", "input", "prompt", "contents"})
"""Members of a provider's request that hold what the model is to see."""

REQUEST_BODY: Final = REQUEST_CONTENT | {"model", "instructions", "system", "tools"}
"""Members of a provider's request that are no parameters."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What shows that a span speaks a dialect: a scope, a key or a beginning of a key is enough.

    Attributes:
        scopes: instrumentation scope names, exact.
        scope_prefixes: beginnings of instrumentation scope names.
        span_names: names of the spans to which the scope applies; none: all.
        beside: attribute keys that a span must carry for the scope to apply.
        keys: attribute keys.
        prefixes: beginnings of attribute keys.
    """

    scopes: tuple[str, ...] = ()
    scope_prefixes: tuple[str, ...] = ()
    span_names: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KindRule:
    """An attribute that says what a span is.

    Attributes:
        key: the attribute.
        kinds: lower-case value → kind. A value that is not listed says "something else".
        endings: lower-case ending of a value → kind, tried where the value is not listed.
        present: kind of every span that carries the key, whatever its value.
        parser: how the value is read (``parsers.TEXT``).
        late: whether rules for a model call go first.
    """

    key: str
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    endings: Mapping[str, Kind] = field(default_factory=dict)
    present: Kind | None = None
    parser: str = "text"
    late: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One place where a field may stand.

    Attributes:
        key: the attribute.
        path: members to follow inside the JSON document that the attribute holds; none: the attribute
            itself. Documents are opened for model calls only.
        parser: how the value is read (``parsers.TEXT``, ``parsers.LISTS``).
        only: dialect that the span must speak: the key means something else elsewhere.
        unless: dialects that the span must not speak, for the same reason.
        failed: span status it holds for: failed ones, the others, or (None) both.
    """

    key: str
    path: tuple[str, ...] = ()
    parser: str = "text"
    only: str | None = None
    unless: tuple[str, ...] = ()
    failed: bool | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """One place where the members of an object field may stand.

    Attributes:
        prefix: one attribute per member, named by what follows the prefix.
        key: one attribute that holds them all, as JSON.
        path: members to follow inside that JSON.
        keys: attribute → member name.
        drop: member names that belong to another field.
        request_with: the document is a request only if it has one of these members.
        only: dialect that the span must speak.
        json_values: whether each value is JSON text itself.
        invented: members whose source fills them in when the application did not set them; a value
            that equals the filled-in one cannot be told from an absent one and is left out.
    """

    prefix: str | None = None
    key: str | None = None
    path: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    request_with: frozenset[str] = frozenset()
    only: str | None = None
    json_values: bool = False
    invented: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """One place where content may stand.

    Attributes:
        key: attribute that holds it whole.
        prefix: keys that hold it in pieces, ``<prefix><number>.<member>``.
        event: whether span events hold it.
        form: how it is read (``content``): ``messages``, ``document``, ``events``, ``listed_events``,
            ``flattened``, ``bedrock_events``, ``openinference`` or ``vercel_answer``.
        only: dialect that the span must speak.
        plain: whether it is plain text, never JSON.
        plain_where: attribute and value that say the content is plain text, never JSON.
        path: members to follow inside the JSON document that the attribute holds.
    """

    key: str = ""
    prefix: str = ""
    event: bool = False
    form: str = "messages"
    only: str | None = None
    plain: bool = False
    plain_where: tuple[str, str] | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Switch:
    """The setting that turns content capture on at the source.

    Attributes:
        setting: what to set.
        scope_prefix: beginning of the scope names it holds for; all where empty.
        unless_failed: whether failed calls lack content even where it is on.
    """

    setting: str
    scope_prefix: str = ""
    unless_failed: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """One attribute convention.

    Attributes:
        name: value of the column ``dialect``.
        marks: what shows that a span speaks it.
        kinds: what says which kind a span is.
        fields: field of the record → where it may stand, first match first. ``streamed`` is not a
            field of the record: it says whether the answer came in pieces.
        members: object field → where its members may stand.
        input: content of what a model call saw.
        output: content of what a model call answered.
        system: system instructions that stand apart from the input.
        tools: definitions of the tools that a model call was offered.
        raw_input: what any other kind of span was given.
        raw_output: what any other kind of span gave back.
        switches: how content capture is turned on, first match first.
    """

    name: str
    marks: Marks = Marks()
    kinds: tuple[KindRule, ...] = ()
    fields: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    members: Mapping[str, tuple[Members, ...]] = field(default_factory=dict)
    input: tuple[Content, ...] = ()
    output: tuple[Content, ...] = ()
    system: tuple[str, ...] = ()
    tools: tuple[Content, ...] = ()
    raw_input: tuple[Content, ...] = ()
    raw_output: tuple[Content, ...] = ()
    switches: tuple[Switch, ...] = ()
