"""Which services an OTLP request speaks for, without decoding its spans. Pure."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from loopgrid_collector.otlp.envelope import cut

_SERVICE_NAME: Final = "service.name"


def services_of(body: bytes) -> set[str | None]:
    """Every ``service.name`` of a request's resources; None for a resource that has none, or none to be read.

    Args:
        body: a traces, logs or metrics request in protobuf; the three have one shape.

    Raises:
        Undecodable: it is none.
    """
    found: set[str | None] = set()
    for resource, _ in cut([body]).resources:
        try:
            attributes = Resource.FromString(resource).attributes
        except DecodeError:
            found.add(None)
            continue
        names = [attribute.value for attribute in attributes if attribute.key == _SERVICE_NAME]
        found.update(value.string_value if value.HasField("string_value") else None for value in names)
        if not names:
            found.add(None)
    return found
