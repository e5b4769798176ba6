"""Settings of the emitting side: read once at the edge, frozen, every limit named with its unit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from loopgrid.errors import Misconfigured
from loopgrid.redaction import Redaction

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:8000"
VARIABLES: Final = frozenset(
    {
        "LOOPGRID_ENDPOINT",
        "LOOPGRID_SERVICE_NAME",
        "LOOPGRID_API_KEY",
        "LOOPGRID_DISABLED",
        "LOOPGRID_SPOOL_DIR",
        "LOOPGRID_DURABILITY",
        "LOOPGRID_WHEN_FULL",
    }
)
"""Every environment variable of LoopGrid's that this side reads."""
DURABILITIES: Final = ("async", "sync")
LAMBDA_CALL_FLUSH_S: Final = 2.0
POLICIES: Final = ("block", "raise", "drop")
_USER: Final = re.compile(r"//[^/]*@")
"""User and password in a URL: they are in no message."""


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """How much of a value enters the record. What is left out is named in `loopgrid.capture.lossiness`.

    Attributes:
        max_content_bytes: UTF-8 bytes of text kept of one input or one output, before JSON escaping.
        max_depth: nesting levels of lists, maps and objects.
        max_items: values of all kinds in one input or output.
        max_inline_bytes: size up to which a `bytes` value is kept; of a larger one, size and digest.
        max_repr_chars: characters kept of the `repr` of an object that has no JSON form.
        max_text_bytes: UTF-8 bytes of one text fact: template, prompt variable, metadata, tag.
        max_message_bytes: UTF-8 bytes of an exception's message.
        max_facts: prompt variables, metadata keys, tags or finish reasons of one decision, each.
        max_chunks: chunks of one generator or stream; more are counted.
        max_capture_s: seconds that writing down one input, one output or one chunk may take. Foreign code
            that runs on (a `repr` that does not return) is not interrupted.
        max_array_items: items up to which an array or a table is kept; of a larger one, shape, type and
            digest.
        max_digest_bytes: size up to which something left out is digested.
        max_image_bytes: size of the pixels up to which an image is kept, as PNG; of a larger one, mode, size
            and digest.
        max_losses: entries in one decision's list of what is missing.
    """

    max_content_bytes: int = 4 * 2**20
    max_depth: int = 32
    max_items: int = 100_000
    max_inline_bytes: int = 4096
    max_repr_chars: int = 1000
    max_text_bytes: int = 2**20
    max_message_bytes: int = 8192
    max_facts: int = 128
    max_chunks: int = 10_000
    max_capture_s: float = 2.0
    max_array_items: int = 1000
    max_digest_bytes: int = 64 * 2**20
    max_image_bytes: int = 0
    max_losses: int = 64


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """How decisions travel to the collector, and how long anything waits.

    Attributes:
        max_queue_bytes: estimated bytes held in memory for decisions not on disk yet.
        max_spool_bytes: bytes of decisions that may wait in the spool folder, of all processes that use it.
            Each looks once a second at what the others have: together they may pass it by what they write
            in that second. What was refused or damaged is kept besides, up to a quarter of it.
        max_spool_age_s: seconds after which what is unsent is dropped and counted, of living and of ended
            processes. It goes by the file: nothing younger is dropped, and nothing is tried for more than a
            sixteenth longer.
        max_segment_bytes: size at which the spool begins another file; removed whole once acknowledged.
        max_batch_spans: decisions in one request.
        max_batch_bytes: bytes in one request.
        linger_s: seconds a decision waits for company before it is written to disk. With the default and a
            disk that keeps up, it is on disk within 100 ms.
        full_wait_s: seconds the calling thread waits for room where the spool is full and the policy is to
            block, or for the disk where durability is `sync`. Once it waited in vain it does not wait again
            until there was room.
        open_report_s: seconds after which a decision that is still open is reported to the ledger as such.
        report_interval_s: seconds between two reports of the counters where only the sequence moved on.
        request_timeout_s: seconds one request may take.
        first_backoff_s: seconds before the first retry; doubles with each.
        max_backoff_s: seconds between two retries at most, unless the server asks for more.
        exit_flush_s: seconds the end of the process waits for what is still on its way. It does not wait
            for a collector that is not there: one that refuses the connection is asked once more. What is
            left stays in the spool for the next start.
        call_flush_s: seconds an outermost decision waits before it returns for the collector to acknowledge
            it, where nothing is known to be in its way. 0: not at all. Where `AWS_LAMBDA_FUNCTION_NAME` is
            set the default is 2: there the process is frozen when the call returns, perhaps for ever.
    """

    max_queue_bytes: int = 64 * 2**20
    max_spool_bytes: int = 2**30
    max_spool_age_s: float = 30 * 86400.0
    max_segment_bytes: int = 16 * 2**20
    max_batch_spans: int = 512
    max_batch_bytes: int = 8 * 2**20
    linger_s: float = 0.02
    full_wait_s: float = 0.1
    open_report_s: float = 60.0
    report_interval_s: float = 30.0
    request_timeout_s: float = 10.0
    first_backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    exit_flush_s: float = 5.0
    call_flush_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the emitting side is told.

    Attributes:
        endpoint: URL of the LoopGrid server, for the API and for OTLP (`<endpoint>/v1/traces`).
        service_name: `service.name` of this process; None leaves it to OpenTelemetry.
        api_key: sent as `Authorization: Bearer`; never shown.
        disabled: decorated functions run as if they were not decorated. This is LoopGrid's own switch:
            `OTEL_SDK_DISABLED` silences telemetry, and a decision record is not telemetry.
        spool_dirs: folders the durable queue may be in; the first that can be written is taken.
        durability: `async` (on disk within 100 ms) or `sync` (the decorated call returns after fsync).
        when_full: what happens to a decision that has no room: `block` (wait `full_wait_s`, then drop and
            count), `drop` (and count), or `raise` (`SpoolFull`: before the function runs where that is known;
            after it, unless it raised itself, where the room went while it ran).
        capture: limits on what is recorded.
        delivery: limits on how it is sent.
        redact: what is taken out of every span before it leaves this process.
    """

    endpoint: str = DEFAULT_ENDPOINT
    service_name: str | None = None
    api_key: str | None = field(default=None, repr=False)
    disabled: bool = False
    spool_dirs: tuple[str, ...] = field(default_factory=lambda: _spool_dirs({}))
    durability: str = "async"
    when_full: str = "block"
    capture: CaptureLimits = CaptureLimits()
    delivery: DeliveryLimits = DeliveryLimits()
    redact: Redaction | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, so that no later step has to.

        Raises:
            Misconfigured: the endpoint is no http(s) URL, or a limit is not a positive number.
        """
        object.__setattr__(self, "endpoint", checked_endpoint(self.endpoint))
        given: object = self.redact
        if given is not None and not isinstance(given, Redaction):
            raise Misconfigured(
                f"redact is {given!r}: write redact=loopgrid.Redaction(keys=[…], patterns=[…], callback=…)"
            )
        for name, choices in (("durability", DURABILITIES), ("when_full", POLICIES)):
            if (value := getattr(self, name)) not in choices:
                raise Misconfigured(f"{name} is {value!r}: write one of {', '.join(choices)}")
        for limits in (self.capture, self.delivery):
            for limit in fields(limits):
                value = getattr(limits, limit.name)
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                    raise Misconfigured(f"{limit.name} is {value!r}: give a number that is not negative")

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: Any) -> Config:
        """Settings from the variables in `VARIABLES`; overrides that are not None win. `OTEL_SERVICE_NAME`
        stands in for an absent
        `LOOPGRID_SERVICE_NAME`.

        Raises:
            Misconfigured: a value cannot be meant.
        """
        values: dict[str, Any] = {
            "endpoint": environ.get("LOOPGRID_ENDPOINT") or DEFAULT_ENDPOINT,
            "service_name": environ.get("LOOPGRID_SERVICE_NAME") or environ.get("OTEL_SERVICE_NAME") or None,
            "api_key": environ.get("LOOPGRID_API_KEY") or None,
            "disabled": _truth("LOOPGRID_DISABLED", environ.get("LOOPGRID_DISABLED", "")),
            "spool_dirs": _spool_dirs(environ),
            "durability": environ.get("LOOPGRID_DURABILITY") or "async",
            "when_full": environ.get("LOOPGRID_WHEN_FULL") or "block",
        }
        if environ.get("AWS_LAMBDA_FUNCTION_NAME"):
            values["delivery"] = DeliveryLimits(call_flush_s=LAMBDA_CALL_FLUSH_S)
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)


def checked_endpoint(text: str) -> str:
    """The endpoint without a trailing slash.

    Raises:
        Misconfigured: it is no http(s) URL with a host.
    """
    shown = _USER.sub("//…@", str(text))
    advice = f"the endpoint {shown!r} is no URL LoopGrid can use: write it like {DEFAULT_ENDPOINT}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except (ValueError, TypeError, AttributeError) as error:
        raise Misconfigured(advice) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise Misconfigured(advice)
    if parts.query or parts.fragment or parts.username:
        raise Misconfigured(f"{advice}, without query, fragment or user")
    return text.rstrip("/")


def _spool_dirs(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The folder that was named; else the user's state folder, then (a Lambda, a read-only home) one of the
    user's own in the folder for temporary files.
    """
    named = environ.get("LOOPGRID_SPOOL_DIR")
    if named:
        return (named,)
    state, home = environ.get("XDG_STATE_HOME"), environ.get("HOME")
    folders = [Path(state)] if state else [Path(home) / ".local" / "state"] if home else []
    import tempfile  # noqa: PLC0415 - costs an import what the first decision may pay

    folders.append(Path(tempfile.gettempdir()) / f"loopgrid-{os.getuid()}")
    return tuple(str(folder / "loopgrid" / "spool") for folder in folders)


def _truth(name: str, text: str) -> bool:
    match text.strip().lower():
        case "" | "false" | "0":
            return False
        case "true" | "1":
            return True
        case _:
            raise Misconfigured(f"{name} is {text!r}: write true or false")
