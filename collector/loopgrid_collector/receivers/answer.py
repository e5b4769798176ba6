"""What a sender gets back: an Export…ServiceResponse, or a ``google.rpc.Status`` that says what to do.

Both in the encoding of the request. Pure but for ``outcome``, which awaits the work it is given.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable
from enum import Enum
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from loopgrid_collector.errors import CollectorError
from loopgrid_collector.ingest import Receipt
from loopgrid_collector.receivers.signals import Signal
from loopgrid_collector.receivers.status import Code, Verdict

MAX_MESSAGE_CHARACTERS: Final = 2_000
"""A response stays small however much was wrong with the request."""

RECEIPT_HEADER: Final = "loopgrid-receipt"
"""Header of a success over HTTP. No OTLP client minds one more."""

_log = logging.getLogger(__name__)


class Encoding(Enum):
    """The two encodings of OTLP/HTTP, by content type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


_BY_MEDIA_TYPE: Final = {encoding.value: encoding for encoding in Encoding}


def encoding_of(content_type: str) -> Encoding | None:
    """The encoding that a ``Content-Type`` header names, parameters and case aside; ``None`` if neither."""
    return _BY_MEDIA_TYPE.get(content_type.partition(";")[0].strip().lower())


def success(signal: Signal, receipt: Receipt, encoding: Encoding) -> bytes:
    """The body of a 200 (or of gRPC OK): empty unless something was refused or there is advice to give."""
    response = signal.response()
    if receipt.rejected or receipt.message:
        partial = {
            signal.rejected: receipt.rejected,
            "error_message": receipt.message[:MAX_MESSAGE_CHARACTERS],
        }
        response = signal.response(partial_success=partial)
    return _encoded(response, encoding)


def receipt_field(receipt: Receipt) -> str:
    """The value of ``RECEIPT_HEADER``: what OTLP's own answer has no room for."""
    return (
        f"stored={receipt.stored}, duplicates={receipt.duplicates}, "
        f"conflicts={receipt.conflicts}, rejected={receipt.rejected}"
    )


def refusal(verdict: Verdict, encoding: Encoding) -> bytes:
    """The body of an HTTP 4xx or 5xx."""
    return _encoded(rpc_status(verdict), encoding)


def rpc_status(verdict: Verdict) -> status_pb2.Status:
    """The refusal as a ``google.rpc.Status``, with RetryInfo or BadRequest details where they apply."""
    message = verdict.message[:MAX_MESSAGE_CHARACTERS]
    status = status_pb2.Status(code=int(verdict.code), message=message)
    if verdict.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(verdict.retry_after_s)
        status.details.add().Pack(retry)
    if verdict.code is Code.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(description=message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return status


async def outcome(work: Awaitable[Receipt]) -> Receipt | Exception:
    """What became of a request: its receipt, or the error to answer with."""
    try:
        return await work
    except CollectorError as error:
        return error
    # THE boundary of both doors: a bug costs its own request an INTERNAL answer, never the server.
    except Exception as error:  # noqa: BLE001
        # Frames without the error's text, which could quote the payload.
        frames = "".join(traceback.format_tb(error.__traceback__))
        _log.error("bug: %s while receiving\n%s", type(error).__name__, frames)
        return error


def _encoded(message: Message, encoding: Encoding) -> bytes:
    if encoding is Encoding.PROTOBUF:
        return message.SerializeToString()
    return json_format.MessageToJson(message, indent=None).encode()
