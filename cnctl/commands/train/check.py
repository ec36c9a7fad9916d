"""What of a training run can be checked before torch is imported, which takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

from cnctl.commands.shared.bases import choose_base
from cnctl.commands.shared.cached import find_named
from cnctl.commands.train.request import TrainRequest
from cnctl.data.open import check_place
from cnctl.errors import CnctlError, OutputError
from cnctl.models.layouts import find_layout
from cnctl.plugin import Condition
from cnctl.registry import get_condition
from cnctl.tensorfiles.paths import check_path
from cnctl.training.run_folder import LOCK, OURS


def check_names(request: TrainRequest, out: Path, *, resume: bool) -> None:
    """Raise CnctlError where a name of the request, or the folder, cannot be used."""
    check_out(out, resume=resume)
    if not resume:  # else they are those that the run was started with
        find_condition(request.condition)
        check_place(named_data(request.data))
        choose_base(request.base)
        if request.init_from:
            find_layout(find_named(request.init_from))


def find_condition(condition: str | Condition | None) -> Condition:
    """The condition of this name, or the condition itself."""
    if condition is None:
        raise CnctlError("no condition is named", hint="give --cond; cnctl conditions lists them")
    return condition if isinstance(condition, Condition) else get_condition(condition)


def named_data(data: str | None) -> str:
    """The data that are named; CnctlError where none are."""
    if data is None:
        raise CnctlError("no data is named", hint="give --data FOLDER or --data scenes:2000")
    return data


def check_out(out: Path, *, resume: bool) -> None:
    """Refuse a folder with something in it, but for a run that is to be resumed."""
    check_path(out, error=OutputError)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is not a folder", hint="choose another -o")
    names = set(os.listdir(out)) - {LOCK} if out.exists() else set()
    if resume and names and not names & OURS:
        raise OutputError(f"{out} holds no training run", hint="choose another -o")
    if names and not resume:
        started = bool(names & OURS)
        hint = "--resume resumes it, or choose another -o" if started else "choose another -o"
        what = "holds a training run" if started else "is not empty"
        raise OutputError(f"{out} {what}", hint=hint)
