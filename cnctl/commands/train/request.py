"""What the user asks of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from cnctl.commands.shared import flags
from cnctl.plugin import Condition
from cnctl.settings.common import BaseName
from cnctl.settings.declaration import Declared, Flag


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Declared):
    """The request for a training run. None: not given.

    data, columns: what `cnctl.data.open_dataset` opens. init_from: a ControlNet to start from,
    else a copy of the base. config: a config.json for it, if its file has none. settings:
    TrainSettings by name, None for the default. cache: a folder, made if need be, where encoded
    images and prompts are kept.
    """

    condition: str | Condition | None = None
    data: Annotated[
        str | None,
        Flag(
            "Folder with metadata.jsonl, .csv or prompt.json; shards 'x/*.tar', local or at a URL; "
            "or N drawn scenes.",
            metavar="DIR|SHARDS|scenes:N",
        ),
    ] = None
    columns: flags.Columns = None
    base: BaseName = None
    init_from: Annotated[
        str | None,
        Flag("ControlNet to start from.", metavar="WEIGHTS", default="the base"),
    ] = None
    config: Annotated[
        str | None,
        Flag("config.json for --init-from, if its file has none.", metavar="FILE"),
    ] = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    cache: Annotated[
        str | None,
        Flag(
            "Folder that keeps encoded images and prompts for later epochs and runs.",
            metavar="DIR",
        ),
    ] = None
    device: flags.Device = None
    dtype: flags.Dtype = None
    quantize: flags.Quantize = None
