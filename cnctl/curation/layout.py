"""Where the files of a data set lie in its folder."""

from __future__ import annotations

from pathlib import Path

from cnctl.curation.recipe import Form
from cnctl.data.annotated import PLAN, REPORT
from cnctl.data.held_out import SUBSETS, VALIDATION
from cnctl.data.tables import SPLIT

__all__ = ["PLAN", "REPORT", "SUBSETS", "VALIDATION"]

ROWS = "rows.jsonl"
MANIFEST = "manifest.jsonl"
PAGE = "report.html"
CLAIMS = ".claims"
TRAIN = SPLIT
SPLITS = (TRAIN, VALIDATION)
"""Folders of shards, named as Hugging Face `datasets` names splits."""
RECORDS = "records"


def shard_name(form: Form, split: str, shard: int) -> str:
    """Path of a shard below the output: a tar file, or a folder."""
    return f"{split}/{shard:06d}" + ".tar" * (form == "tar")


def records_name(shard: int) -> str:
    """Path of the records of a shard's rows below the output."""
    return f"{RECORDS}/{shard:06d}.jsonl"


def key_of(row: int) -> str:
    """What the members of an example are called: the row's number, so that no name can be taken
    twice or lead elsewhere, whatever the inputs are called.
    """
    return f"{row:09d}"


def temporary(path: Path) -> Path:
    """Where a file is written before it is published; of a killed run, the next one's."""
    return path.with_name(f".{path.name}.tmp")
