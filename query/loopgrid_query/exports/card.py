"""The dataset card of an export for Hugging Face ``datasets``: which file is which split. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

NAME: Final = "README.md"

_TEXT: Final = """\
---
configs:
  - config_name: default
    data_files:
{splits}
---

# Decisions and their ground truth

Exported by LoopGrid {version} from ledger `{ledger}` as of commit {commit} ({moment}).
{decisions} decisions were looked at, {rows} are here. Columns that hold JSON hold it as text.

`lineage.jsonl` names the decision, the correction and the person behind every row, in the order of the files;
`manifest.json` says how the rows were chosen and divided, and the SHA-256 of each file.
`loopgrid exports affected manifest.json` tells which rows rest on a correction that stands no more.

Ground truth: `{policy}`. Filters: `{filters}`. Split: {rule}.
"""


def text(manifest: Mapping[str, Any]) -> str:
    """The card for what a manifest describes. A split without rows is not named: it could not be loaded."""
    named = [file for file in manifest["files"] if file["rows"]] or manifest["files"][:1]
    return _TEXT.format(
        splits="\n".join(f"      - split: {file['split']}\n        path: {file['name']}" for file in named),
        version=manifest["loopgrid"],
        ledger=manifest["ledger"]["ledger_id"],
        commit=manifest["ledger"]["commit_id"],
        moment=manifest["ledger"]["recorded_at"],
        decisions=manifest["decisions"],
        rows=manifest["rows"],
        policy=manifest["ground_truth_policy"],
        filters=json.dumps(manifest["filters"], ensure_ascii=False),
        rule=manifest["split"]["rule"],
    )
