"""Record digests: what a ledger row commits to. Pure.

The digest of a record is SHA-256 over its facts, followed by one *salted* digest of its content.
Content (names, attributes, events, bodies: everything a person may have a right to have erased) enters
only through that salted digest, so it can be removed later together with its salt, and the record
still verifies. The canonical form is specified in ``docs/spec/ledger.md`` and repeated nowhere else.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 32

CONTENT_DOMAIN: Final = b"loopgrid-content-v1\n"


@dataclass(frozen=True, slots=True)
class Form:
    """Which columns of a table are facts, and which are content, in digest order.

    Attributes:
        table: name of the table in schema ``store``.
        domain: prefix that keeps digests of different tables apart.
        facts: columns that enter the digest as they are.
        content: columns that enter through the salted content digest.
    """

    table: str
    domain: bytes
    facts: tuple[str, ...]
    content: tuple[str, ...]


SPANS: Final = Form(
    table="spans",
    domain=b"loopgrid-span-v1\n",
    facts=(
        "trace_id", "span_id", "parent_span_id", "trace_state", "flags", "span_kind", "start_ns", "end_ns",
        "status_code", "dropped_attributes", "dropped_events", "dropped_links", "resource", "scope",
    ),
    content=("name", "status_message", "attributes", "events", "links"),
)  # fmt: skip

LOGS: Final = Form(
    table="logs",
    domain=b"loopgrid-log-v1\n",
    facts=(
        "trace_id", "span_id", "flags", "time_ns", "observed_ns", "severity_number", "severity_text",
        "event_name", "dropped_attributes", "resource", "scope",
    ),
    content=("body", "attributes"),
)  # fmt: skip

ENTRIES: Final = Form(
    table="entries",
    domain=b"loopgrid-entry-v1\n",
    facts=("entry_id", "entry_type", "trace_id", "span_id", "subject_id"),
    content=("actor", "body"),
)

REFUSED: Final = Form(
    table="refused",
    domain=b"loopgrid-refused-v1\n",
    facts=("reason_code", "signal", "trace_id", "span_id"),
    content=("reason", "payload", "resource", "scope"),
)

FORMS: Final = (SPANS, LOGS, ENTRIES, REFUSED)


def frame(value: str | bytes | int | uuid.UUID | None) -> bytes:
    """One value, framed so that no two sequences of values share their bytes.

    ``n;`` null · ``i<decimal>;`` integer · ``s<length>:<UTF-8>`` text · ``b<length>:<bytes>`` bytes.
    A UUID is its 16 bytes.
    """
    # The exact type is asked first: nearly every value is one of four, and this runs for each of them.
    kind = type(value)
    if kind is str:
        # A lone surrogate cannot come from UTF-8 input; refusing it here would lose a record.
        encoded = value.encode("utf-8", "surrogatepass")  # type: ignore[union-attr]
        return b"s%d:%b" % (len(encoded), encoded)
    if kind is int:
        return b"i%d;" % value  # type: ignore[str-format]
    if value is None:
        return b"n;"
    raw = value.bytes if isinstance(value, uuid.UUID) else value
    return b"b%d:%b" % (len(raw), raw)  # type: ignore[arg-type, str-format]


def digest(form: Form, row: Mapping[str, Any], salt: bytes) -> bytes:
    """The digest of one record.

    Args:
        form: the record's canonical form.
        row: column values by name; trace ids as UUID or 16 bytes.
        salt: the record's own random bytes.
    """
    return _digest(form, [row[name] for name in form.facts], [row[name] for name in form.content], salt)


def digests(form: Form, columns: Mapping[str, Sequence[Any]], salts: Sequence[bytes]) -> list[bytes]:
    """Digests of many records given as columns; the same values as :func:`digest`, one per salt."""
    facts = zip(*(columns[name] for name in form.facts), strict=True)
    content = zip(*(columns[name] for name in form.content), strict=True)
    return [_digest(form, fact, text, salt) for fact, text, salt in zip(facts, content, salts, strict=True)]


def _digest(form: Form, facts: Iterable[Any], content: Iterable[Any], salt: bytes) -> bytes:
    inner = hashlib.sha256(b"".join((CONTENT_DOMAIN, salt, *map(frame, content)))).digest()
    return hashlib.sha256(b"".join((form.domain, *map(frame, facts), inner))).digest()


def chain(
    previous: bytes, commit_id: int, first_record: int, records: int, root: bytes, time_us: int
) -> bytes:
    """The chain value of a commit: its header, bound to everything before it.

    Args:
        previous: chain value of the commit before; 32 zero bytes for the first.
        commit_id: number of the commit, from 1.
        first_record: position of its first record in the ledger, from 0.
        records: how many records it holds.
        root: RFC 6962 root over their digests.
        time_us: when it was made, microseconds since 1970 UTC.
    """
    header = struct.pack(">QQQq", commit_id, first_record, records, time_us)
    return hashlib.sha256(b"loopgrid-commit-v1\n" + previous + header + root).digest()
