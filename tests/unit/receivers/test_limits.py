"""Decompression stops at the cap, and the bytes in the house are counted."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard

from loopgrid_collector.errors import Overloaded, TooLarge, Undecodable, UnsupportedCoding
from loopgrid_collector.receivers import limits

MIB = 2**20


def checked_zstd(content: bytes) -> bytes:
    """zstd with a checksum, without which a changed literal is not an error."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": checked_zstd,
}
CODINGS = sorted(COMPRESSORS)
CONTENT = bytes(range(256)) * 400


def expand(wire: bytes, name: str, cap: int = MIB, budget: limits.Budget | None = None) -> bytes:
    coding = limits.coding_of(name)
    assert coding is not None
    with (budget or limits.Budget(1024 * MIB)).admission() as admission:
        inflation = limits.Inflation(wire, coding, cap, admission)
        assert inflation.advance()
        return inflation.body()


@pytest.mark.parametrize("name", CODINGS)
def test_what_was_compressed_comes_back(name):
    assert expand(COMPRESSORS[name](CONTENT), name) == CONTENT


@pytest.mark.parametrize("name", CODINGS)
def test_nothing_compressed_comes_back_as_nothing(name):
    assert expand(COMPRESSORS[name](b""), name) == b""


@pytest.mark.parametrize("name", CODINGS)
def test_a_body_of_exactly_the_cap_passes_and_one_byte_more_does_not(name):
    wire = COMPRESSORS[name](CONTENT)

    assert expand(wire, name, cap=len(CONTENT)) == CONTENT
    with pytest.raises(TooLarge, match=f"larger than {len(CONTENT) - 1} bytes"):
        expand(wire, name, cap=len(CONTENT) - 1)


@pytest.mark.parametrize("name", CODINGS)
def test_a_bomb_is_refused_long_before_it_has_expanded(name):
    wire = COMPRESSORS[name](bytes(128 * MIB))

    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            expand(wire, name, cap=MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 40 * MIB


@pytest.mark.parametrize("name", CODINGS)
@pytest.mark.parametrize("spoil", ["cut", "start", "middle", "tail", "empty"])
def test_a_damaged_stream_is_refused(name, spoil):
    wire = COMPRESSORS[name](CONTENT)
    damaged = {
        "cut": wire[:-3],
        "start": b"\x00\x01\x02" + wire,
        "middle": wire[: len(wire) // 2] + b"\xff" * 40 + wire[len(wire) // 2 + 40 :],
        "tail": wire + b"garbage",
        "empty": b"",
    }[spoil]

    with pytest.raises((Undecodable, TooLarge)):
        expand(damaged, name)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_streams_that_follow_one_another_are_one_body(name):
    wire = COMPRESSORS[name](b"one ") + COMPRESSORS[name](b"two")

    assert expand(wire, name) == b"one two"


def test_deflate_takes_one_stream_only():
    with pytest.raises(Undecodable, match="follows the end"):
        expand(zlib.compress(b"one") + zlib.compress(b"two"), "deflate")


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_the_number_of_streams_in_one_body_is_bounded(name):
    with pytest.raises(Undecodable, match="more than 4096 streams"):
        expand(COMPRESSORS[name](b"") * 5_000, name)


def test_a_zstd_frame_that_asks_for_a_giant_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    wire = compressor.compress(CONTENT) + compressor.flush()

    with pytest.raises(Undecodable):
        expand(wire, "zstd")


def test_decompression_pauses_and_goes_on_where_it_was():
    coding = limits.coding_of("gzip")
    assert coding is not None
    with limits.Budget(64 * MIB).admission() as admission:
        inflation = limits.Inflation(gzip.compress(bytes(40 * MIB)), coding, 64 * MIB, admission)

        assert inflation.advance(pause_after_bytes=MIB) is False
        assert inflation.advance() is True
        assert inflation.body() == bytes(40 * MIB)


@pytest.mark.parametrize("header", ["", "identity", " Identity "])
def test_an_uncompressed_body_has_no_coding(header):
    assert limits.coding_of(header) is None


@pytest.mark.parametrize("header", ["br", "gzip, gzip", "lz4", "gzip\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_coding_that_is_not_read_is_named_in_the_refusal(header):
    with pytest.raises(UnsupportedCoding, match="send gzip, deflate, zstd or snappy") as refused:
        limits.coding_of(header)

    assert repr(header) in refused.value.message


@pytest.mark.parametrize("name", CODINGS)
def test_incompressible_content_at_the_cap_may_gain_its_framing(name):
    import random

    noise = random.Random(7).randbytes(3 * MIB)
    wire = COMPRESSORS[name](noise)

    assert len(wire) > len(noise)
    assert len(wire) <= limits.max_wire_bytes(limits.coding_of(name), len(noise))


def test_bytes_beyond_the_budget_are_refused_until_others_are_given_back():
    budget = limits.Budget(100)
    with budget.admission() as second:
        with budget.admission() as first:
            first.add(80)
            second.add(20)
            with pytest.raises(Overloaded, match="LOOPGRID_MAX_QUEUED_BYTES"):
                second.add(1)
        second.add(1)

        assert budget.in_use_bytes == 21
    assert budget.in_use_bytes == 0


def test_a_request_alone_in_the_house_is_let_in_whatever_its_size():
    budget = limits.Budget(100)
    with budget.admission() as only:
        only.add(60)
        only.add(60)

        assert budget.in_use_bytes == 120


def test_expanded_bytes_count_against_the_budget_too():
    budget = limits.Budget(100_000)
    with budget.admission() as other:
        other.add(90_000)

        with pytest.raises(Overloaded):
            expand(gzip.compress(bytes(50_000)), "gzip", budget=budget)


def test_a_request_that_was_given_up_takes_no_more():
    budget = limits.Budget(100)
    with budget.admission() as gone:
        gone.add(1)

    with pytest.raises(Overloaded, match="given up"):
        gone.add(1)
    assert budget.in_use_bytes == 0
