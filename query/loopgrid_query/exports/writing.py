"""An export's folder: rows, lineage and manifest, written so that an interrupted export can go on.

Files grow under names that end in ``.part``; a state file says up to where they are good, and where in the
ledger that was. The same command goes on there and ends with the bytes it would have ended with undisturbed.
The manifest comes last: a folder that has one is complete.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from loopgrid.version import version
from loopgrid_query.exports import card
from loopgrid_query.exports.asking import After
from loopgrid_query.exports.formats import FORMATS
from loopgrid_query.exports.lines import data_of, jsonl_lines, lineage_lines
from loopgrid_query.exports.messages import Unfit
from loopgrid_query.exports.parts import PART, Part, Size, parquet_from, sha256_of, write_json
from loopgrid_query.exports.source import Standpoint, last_of
from loopgrid_query.exports.splits import TEST, TRAIN, Rule
from loopgrid_query.exports.streams import lineage, rows_of

MANIFEST: Final = "manifest.json"
LINEAGE: Final = "lineage.jsonl"
STATE: Final = "export.state"
MANIFEST_VERSION: Final = 1

SAVE_EVERY_S: Final = 1.0
"""What a killed export did in this time is done again, with the same result."""

_TABLE_COLUMNS_LEFT_OUT: Final = ["straddles"]

Progress = Callable[[int], None]


class Refused(Exception):
    """The folder does not fit the export. The message says what to do."""


class Feed(Protocol):
    """Where decisions come from: a server, or a ledger file."""

    def pages(self, after: After | None, commit_id: int | None) -> tuple[Standpoint, Iterator[pa.Table]]:
        """The state that is shown, and its decisions in order.

        Args:
            after: go on after this decision.
            commit_id: as of this commit; as the request says if left out.
        """


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be written.

    Attributes:
        format: one of ``FORMATS``.
        policy: how ground truth is chosen.
        filters: names and values as they stand in an address.
        as_of: the moment or commit that was asked for; None for now.
        rule: how decisions are divided.
    """

    format: str
    policy: str
    filters: Sequence[tuple[str, str]]
    as_of: str | None
    rule: Rule

    def record(self) -> dict[str, Any]:
        """As JSON object: what must be the same for an export to go on."""
        return {
            "format": self.format,
            "filters": dict(self.filters),
            "as_of": self.as_of,
            "ground_truth_policy": self.policy,
            "split": self.rule.record(),
        }


@dataclass(slots=True)
class _State:
    standpoint: Standpoint | None
    after: After | None
    sizes: dict[str, Size]
    decisions: int
    left_out: Counter[str]
    complete: bool


def export(task: Task, feed: Feed, folder: Path, progress: Progress) -> dict[str, Any]:
    """Write an export, or go on with one that was interrupted; its manifest.

    Args:
        task: what to write.
        feed: where it comes from.
        folder: where it goes; made where it is missing.
        progress: told the number of decisions that were looked at.

    Raises:
        Refused: the folder holds an export already, or another one that is unfinished.
    """
    if (folder / MANIFEST).exists() and not (folder / STATE).exists():
        raise Refused(f"{folder} holds a finished export; choose another --output, or remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    return _Export(task, folder).run(feed, progress)


class _Export:
    def __init__(self, task: Task, folder: Path) -> None:
        self._task = task
        self._folder = folder
        self._format = FORMATS[task.format]
        self._state = _read_state(folder / STATE, task)
        self._parts: dict[str, Part] = {}

    def run(self, feed: Feed, progress: Progress) -> dict[str, Any]:
        state = self._state
        if not state.complete:
            pinned = None if state.standpoint is None else state.standpoint.commit_id
            standpoint, pages = feed.pages(state.after, pinned)
            if state.standpoint not in (None, standpoint):
                raise Refused(
                    f"{self._folder} was begun from another ledger; remove it, or name that ledger."
                )
            state.standpoint = standpoint
            self._write(pages, progress)
        return self._finish()

    def _names(self) -> dict[str, str]:
        """The file of each side."""
        sides = (TRAIN, TEST) if self._task.rule.divides else (TRAIN,)
        whole = self._task.format == "hf"
        marks = {side: side if whole else f"-{side}" if len(sides) > 1 else "" for side in sides}
        return {side: self._format.file.format(split=mark) for side, mark in marks.items()}

    def _write(self, pages: Iterator[pa.Table], progress: Progress) -> None:
        state, names = self._state, self._names()
        try:
            for name in (*names.values(), LINEAGE):
                size = state.sizes.setdefault(name, Size())
                self._parts[name] = Part(self._folder / (name + PART), size)
        except ValueError as error:
            raise Refused(f"{error}; remove {self._folder} and begin anew.") from error
        by_columns = self._format.row is None or self._task.format == "jsonl"
        add = self._add_table if by_columns else self._add_rows
        saved_s = -SAVE_EVERY_S
        try:
            for page in pages:
                add(page, names)
                state.decisions += page.num_rows
                state.after = last_of(page) if page.num_rows else state.after
                progress(state.decisions)
                if time.monotonic() - saved_s >= SAVE_EVERY_S:
                    self._save()
                    saved_s = time.monotonic()
            state.complete = True
            self._save()
        finally:
            for part in self._parts.values():
                part.close()

    def _save(self) -> None:
        for part in self._parts.values():
            part.sync()
        _write_state(self._folder / STATE, self._task, self._state)

    def _add_rows(self, page: pa.Table, names: dict[str, str]) -> None:
        make = self._format.row
        if make is None:
            raise AssertionError("a format of tables has no rows to be made")
        texts: dict[str, list[bytes]] = {side: [] for side in names}
        lines: list[bytes] = []
        for row in rows_of(page):
            try:
                side = self._task.rule.side(row)
                texts[side].append(make(row))
            except Unfit as unfit:
                self._state.left_out[unfit.reason] += 1
                continue
            lines.append(_lineage_line(row, side, names[side], self._rows(names[side]) + len(texts[side])))
        for side, found in texts.items():
            self._parts[names[side]].write(b"".join(text + b"\n" for text in found), len(found))
        self._parts[LINEAGE].write(b"".join(lines), len(lines))

    def _add_table(self, page: pa.Table, names: dict[str, str]) -> None:
        """Whole columns: only what the split needs becomes Python objects."""
        sides = self._sides(page)
        is_lines = self._format.row is not None
        whole = jsonl_lines(page) if is_lines else page.drop_columns(_TABLE_COLUMNS_LEFT_OUT)
        numbers = self._numbers(sides, names)
        told: list[pa.Array] = []
        for side, name in names.items():
            chosen = pa.array([found == side for found in sides], pa.bool_())
            is_all = chosen.false_count == 0
            mine = whole if is_all else whole.filter(chosen)
            if is_lines:
                self._parts[name].write(data_of(mine), len(mine))
            else:
                self._parts[name].write_table(mine.replace_schema_metadata())
            lines = lineage_lines(page, name, numbers, side)
            told.append(lines if is_all else pc.if_else(chosen, lines, ""))
        # Each decision has a line on one side at most; joined, they stand in the order of the decisions.
        lineage = pc.binary_join_element_wise(*told, pa.repeat("", page.num_rows), "")
        self._parts[LINEAGE].write(data_of(lineage), sum(side is not None for side in sides))

    def _sides(self, page: pa.Table) -> list[str | None]:
        """The side of each decision; those without one are counted."""
        if not self._task.rule.divides:
            return [TRAIN] * page.num_rows
        sides: list[str | None] = []
        for row in rows_of(page.select(_NEEDED)):
            try:
                sides.append(self._task.rule.side(row))
            except Unfit as unfit:
                self._state.left_out[unfit.reason] += 1
                sides.append(None)
        return sides

    def _numbers(self, sides: list[str | None], names: dict[str, str]) -> pa.Array:
        """The row of each decision in its side's file, from 1."""
        counts = {side: self._rows(name) for side, name in names.items()}
        numbers: list[int] = []
        for side in sides:
            if side is not None:
                counts[side] += 1
            numbers.append(counts[side] if side is not None else 0)
        return pa.array(numbers, pa.int64())

    def _rows(self, name: str) -> int:
        return self._state.sizes[name].rows

    def _finish(self) -> dict[str, Any]:
        """Give every file its name, the manifest last. May be done again after any interruption."""
        files = []
        for side, name in self._names().items():
            if self._format.row is None:
                parquet_from(self._folder / (name + PART), self._folder / (name + ".new"))
                (self._folder / (name + ".new")).replace(self._folder / name)
            else:
                self._rename(name)
            files.append({"name": name, "split": side, **self._described(name)})
        self._rename(LINEAGE)
        manifest = self._manifest(files)
        if self._task.format == "hf":
            (self._folder / card.NAME).write_text(card.text(manifest), encoding="utf-8")
        write_json(self._folder / MANIFEST, manifest)
        for name in self._names().values():
            (self._folder / (name + PART)).unlink(missing_ok=True)
        (self._folder / STATE).unlink()
        return manifest

    def _rename(self, name: str) -> None:
        part = self._folder / (name + PART)
        if part.exists():
            if name.endswith(".yaml") and not self._rows(name):
                part.write_bytes(b"[]\n")
            part.replace(self._folder / name)

    def _described(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        return {"rows": self._rows(name), "bytes": path.stat().st_size, "sha256": sha256_of(path)}

    def _manifest(self, files: list[dict[str, Any]]) -> dict[str, Any]:
        state = self._state
        if state.standpoint is None:
            raise AssertionError("an export that is complete has seen a ledger")
        return {
            "manifest_version": MANIFEST_VERSION,
            "loopgrid": version(),
            **self._task.record(),
            "ledger": state.standpoint.record(),
            "decisions": state.decisions,
            "rows": sum(file["rows"] for file in files),
            "left_out": dict(sorted(state.left_out.items())),
            "files": files,
            "lineage": {"name": LINEAGE, **self._described(LINEAGE)},
        }


_NEEDED: Final = ["decision_id", "session_id", "user_id", "started_at", "straddles"]


def _lineage_line(row: dict[str, Any], side: str, name: str, number: int) -> bytes:
    return orjson.dumps({"file": name, "row": number, **lineage(row), "split": side}) + b"\n"


def _read_state(path: Path, task: Task) -> _State:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        others = [each for each in path.parent.iterdir() if not each.name.endswith((PART, ".new"))]
        if any(each.is_file() for each in others):
            raise Refused(f"{path.parent} holds other files; choose an empty or a new --output.") from None
        return _State(None, None, {}, 0, Counter(), complete=False)
    except ValueError as error:
        raise Refused(f"{path} cannot be read; remove {path.parent} and begin anew.") from error
    if found["task"] != task.record() or found["loopgrid"] != version():
        raise Refused(
            f"{path.parent} holds an unfinished export that was asked for otherwise (see {path.name} there); "
            "repeat that command, or choose another --output."
        )
    return _State(
        standpoint=Standpoint(**found["standpoint"]),
        after=After(**found["after"]) if found["after"] else None,
        sizes={name: Size(**size) for name, size in found["sizes"].items()},
        decisions=found["decisions"],
        left_out=Counter(found["left_out"]),
        complete=found["complete"],
    )


def _write_state(path: Path, task: Task, state: _State) -> None:
    standpoint = state.standpoint
    write_json(
        path,
        {
            "task": task.record(),
            "loopgrid": version(),
            "standpoint": standpoint.record() if standpoint else None,
            "after": {"commit_id": state.after.commit_id, "decision_id": state.after.decision_id}
            if state.after
            else None,
            "sizes": {name: {"bytes": size.bytes, "rows": size.rows} for name, size in state.sizes.items()},
            "decisions": state.decisions,
            "left_out": dict(state.left_out),
            "complete": state.complete,
        },
    )
