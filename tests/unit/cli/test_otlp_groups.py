"""JSON lines share requests, and no line is changed by it."""

from __future__ import annotations

import json
from pathlib import Path

from loopgrid_query.cli.otlp_files import Place, Refusal, read_requests
from loopgrid_query.cli.otlp_groups import GROUP_BYTES, GROUP_RECORDS, Group, grouped


def line(*names: str, key: str = "resourceSpans") -> str:
    spans = [{"name": name} for name in names]
    return json.dumps({key: [{"scopeSpans": [{"spans": spans}]}]}) + "\n"


def groups(folder: Path, text: str, start: Place | None = None) -> list[Group]:
    file = folder / "export.jsonl"
    file.write_text(text)
    return list(grouped(read_requests(file, None, start or Place())))


def test_lines_share_a_request_that_holds_their_lists_one_after_the_other(tmp_path):
    (group,) = groups(tmp_path, line("a") + line("b", "c") + '{"resourceSpans": []}\n')

    lists = [json.loads(text)["resourceSpans"] for text in (line("a"), line("b", "c"))]
    assert json.loads(group.body) == {"resourceSpans": lists[0] + lists[1]}
    assert (group.records, group.where) == (3, f"{tmp_path}/export.jsonl:1-3")


def test_every_character_inside_a_list_stays(tmp_path):
    """Numbers past 64 bits and doubles in odd spelling, repeated keys, escapes: nothing is written anew."""
    odd = '{"a": 1.0e0, "a": 123456789012345678901234567890, "b": "\\u0041]}"}'
    (group,) = groups(tmp_path, f'{{"resourceSpans":[ {odd} ]}}\n' + line("b"))

    assert odd.encode() in group.body


def test_a_request_with_another_key_beside_its_list_travels_alone(tmp_path):
    text = '{"resourceSpans": [{}], "resourceSpans": [{}]}\n'
    first, other, last = groups(tmp_path, line("a") + text + line("b"))

    assert other.body == text.encode()
    assert [len(group.requests) for group in (first, other, last)] == [1, 1, 1]


def test_a_group_ends_at_another_signal_at_a_refusal_and_at_its_limits(tmp_path):
    many = line(*["x"] * (GROUP_RECORDS - 1))
    big = line("y" * (GROUP_BYTES - 100))
    text = line("a") + line("b", key="resourceLogs") + "{broken\n" + many + line("c") + line("d") + big
    found = groups(tmp_path, text)

    assert [len(group.requests) for group in found] == [1, 1, 0, 2, 1, 1]
    assert [group.records for group in found] == [1, 0, 0, GROUP_RECORDS, 1, 1]


def test_reading_goes_on_at_a_place_with_its_line_numbers(tmp_path):
    text = line("a") + "\n" + line("b")
    start = len(line("a")) + 1
    (group,) = groups(tmp_path, text, Place(start, 2))

    assert group.where.endswith(":3")
    assert (group.last.file_bytes, group.last.line) == (len(text), 3)


def test_a_last_line_that_is_still_being_written_is_not_passed(tmp_path):
    first, refused = groups(tmp_path, line("a") + '{"resourceSp')

    assert isinstance(refused.last, Refusal)
    assert refused.last.passing
    assert refused.last.file_bytes == first.last.file_bytes == len(line("a"))
