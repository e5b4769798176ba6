"""Which of several media types a client would like best (RFC 9110, 12.5.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from loopgrid_query.errors import NotAcceptable


def best(accept: str | None, offered: Sequence[str]) -> str:
    """The offered media type that the client weighs highest; of equals the first offered.

    Args:
        accept: the ``Accept`` header, if there is one.
        offered: what can be written, the preferred one first.

    Raises:
        NotAcceptable: the client takes none of them.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_parsed(part) for part in accept.split(",") if part.strip()]
    weights = [_weight(media_type, ranges) for media_type in offered]
    if max(weights) <= 0:
        raise NotAcceptable(f"Accept: {accept} names none of {', '.join(offered)}.")
    return offered[weights.index(max(weights))]


def _parsed(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    try:
        return media_range, float(weight)
    except ValueError:
        return media_range, 0.0


def _weight(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the most exact range that holds the type."""
    weights = dict(ranges)
    major = media_type.partition("/")[0]
    for candidate in (media_type, f"{major}/*", "*/*"):
        if candidate in weights:
            return weights[candidate]
    return 0.0
