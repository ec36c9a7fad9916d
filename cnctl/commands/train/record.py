"""The record of a training run in its checkpoints: what it was started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from cnctl.commands.shared import typed_json
from cnctl.commands.train.request import TrainRequest
from cnctl.data import Dataset
from cnctl.data.urls import without_credentials
from cnctl.errors import CnctlError, shown
from cnctl.models.base import Base
from cnctl.plugin import Condition
from cnctl.settings import TrainSettings
from cnctl.settings.declaration import with_current_names
from cnctl.training.checkpoints import Checkpoint
from cnctl.version import __version__

FORMAT = 1
"""Version of the JSON object; one without a number, as cnctl wrote at first, has format 1 too."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run was started with, without credentials.

    version: of cnctl. examples: how many, those held out included. fingerprint: of the data set.
    device, dtype: "cpu" or "cuda", and "float32", "bfloat16" or "float16". torch, threads: its
    version, and how many threads it uses on the CPU; "" and 0 in records that do not say it.
    """

    version: str
    condition: str
    data: str
    examples: int
    fingerprint: str
    base: str
    columns: str | None = None
    init_from: str | None = None
    config: str | None = None
    cache: str | None = None
    quantize: str | None = None
    device: str
    dtype: str
    torch: str = ""
    threads: int = 0
    settings: TrainSettings

    def to_json(self) -> dict[str, Any]:
        """The JSON object; settings at their defaults too, which may change between versions."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RunRecord:
        """The record of a JSON object.

        Raises CnctlError for a newer format or an unknown setting, ValueError for what is not a
        record.
        """
        _check_format(document)
        settings = document.get("settings")
        if isinstance(settings, Mapping):
            document = {**document, "settings": with_current_names(TrainSettings, settings)}
        _check_settings(document)
        own = {name: v for name, v in document.items() if name != "format" and v is not None}
        record: RunRecord = typed_json.from_json(cls, own, "run")
        return record


def read_run(checkpoint: Checkpoint) -> RunRecord:
    """The record in a checkpoint; CnctlError that names what of it cannot be read."""
    try:
        return RunRecord.from_json(checkpoint.state.get("run", {}))
    except ValueError as error:
        raise CnctlError(
            f"the run in {shown(checkpoint.path)} cannot be resumed: {error}",
            hint=_start_again({}),
        ) from error
    except CnctlError as error:
        raise CnctlError(f"{shown(checkpoint.path)}: {error}", hint=error.hint) from error


def describe_run(
    asked: TrainRequest, base: Base, settings: TrainSettings, dataset: Dataset
) -> RunRecord:
    """The record of a run that is about to start."""
    condition = condition_name(asked.condition)
    assert condition is not None
    assert asked.data is not None
    return RunRecord(
        version=__version__,
        condition=condition,
        data=without_credentials(asked.data),
        examples=len(dataset),
        fingerprint=dataset.fingerprint,
        base=asked.base or ("tiny" if base.name == "tiny" else str(base.path)),
        columns=asked.columns,
        init_from=asked.init_from,
        config=asked.config,
        cache=asked.cache,
        quantize=asked.quantize,
        device=base.device.type,
        dtype=str(base.dtype).removeprefix("torch."),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        settings=settings,
    )


def condition_name(condition: str | Condition | None) -> str | None:
    """The name by which a request asks for this condition."""
    return condition.name if isinstance(condition, Condition) else condition


def _check_format(document: Mapping[str, Any]) -> None:
    found = document.get("format", 1)
    if found not in range(1, FORMAT + 1):
        raise CnctlError(
            f"the run has format {found}, and this version of cnctl reads formats up to {FORMAT}",
            hint=_start_again(document),
        )


def _check_settings(document: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(TrainSettings)}
    unknown = [name for name in document.get("settings", ()) if name not in known]
    if unknown:
        raise CnctlError(
            f"the run has a setting that this version of cnctl does not know: {', '.join(unknown)}",
            hint=_start_again(document),
        )


def _start_again(document: Mapping[str, Any]) -> str:
    version = document.get("version")
    written = f"with cnctl {version}, which wrote it" if version else "with the cnctl that wrote it"
    return f"resume {written}, or start a new run from its weights with --init-from"
