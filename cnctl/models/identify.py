"""What weights are, by the table of signatures, before any form of them is tried.

Only headers and configs are read. Needs no torch.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from cnctl.errors import CnctlError
from cnctl.models.signatures import BASE, CONTROLNET, FLAGS, LORA, SIGNATURES, Signature
from cnctl.models.weights_place import find_low_rank
from cnctl.tensorfiles.header import TensorSpec
from cnctl.tensorfiles.listing import CONFIG, WRAPPER, find_weights, list_tensors

UNETS = "Stable Diffusion 1.x, 2.x and XL"
FAMILIES = "Stable Diffusion 1.x to 3.5, FLUX.1, Z-Image and Qwen-Image"
READ = {BASE: FAMILIES, CONTROLNET: FAMILIES, LORA: FAMILIES}
"""Role -> which models' weights are read; for the others, of UNETS."""
INDEX = "model_index.json"


def check_role(path: Path, role: str) -> Signature | None:
    """What the weights at this path are; CnctlError where they are no `role` that is read here.

    role: of `cnctl.models.signatures`. None where no row fits, or nothing is there.
    """
    row = identify(path, role)
    if row and not serves(row, role):
        raise refusal(row, role, subject=str(path))
    return row


def check_tensors(tensors: Mapping[str, TensorSpec], role: str, *, subject: str) -> None:
    """Raise CnctlError for no tensors, and for those of a known form that is not a `role`."""
    if not tensors:
        raise CnctlError(f"{subject} holds no tensors", hint="fetch or copy it again")
    row = find_signature(tensors)
    if row and not serves(row, role):
        raise refusal(row, role, subject=subject)


def identify(path: Path, role: str) -> Signature | None:
    """The row of the weights at this path; role: what of a folder is looked at first."""
    if path.is_file():
        return find_signature(list_tensors(path).tensors)
    found = None
    for folder, name in _configs(path, role):
        found = found or find_class(_read_class(folder / name))
        # A class says less than the tensors: Kolors' ControlNets have that of any other.
        if (found is None or found.read_by) and (weights := find_weights(folder)):
            found = find_signature(list_tensors(weights).tensors) or found
        if found:
            return found
    # A ControlNet may do without a config.
    weights = (find_low_rank(path) or find_weights(path)) if role == CONTROLNET else None
    return find_signature(list_tensors(weights).tensors) if weights else None


def find_signature(tensors: Mapping[str, TensorSpec]) -> Signature | None:
    """The first row whose rule holds for these tensors."""
    text = "\n".join(
        f"{WRAPPER.sub('', name)}={'x'.join(map(str, spec.shape))}"
        for name, spec in tensors.items()
    )
    rows = (row for row in SIGNATURES if row.count in (0, len(tensors)))
    return next((row for row in rows if row.rule and _holds(row.rule, text)), None)


def find_class(name: str) -> Signature | None:
    """The first row with this class of diffusers."""
    rows = (row for row in SIGNATURES if name)
    return next(
        (row for row in rows if any(fnmatchcase(name, one) for one in row.classes.split())), None
    )


def serves(row: Signature, role: str) -> bool:
    """Whether these weights are read as this role."""
    return bool(row.read_by) and role in (row.role, row.also)


def refusal(row: Signature, role: str, *, subject: str) -> CnctlError:
    """What a file is instead of a `role`, and what takes it."""
    article = "an" if role[:1] in "aeiou" else "a"
    what = f"{subject} is {row.what}"
    return CnctlError(
        what if row.role == role else f"{what}, not {article} {role}", hint=_advice(row)
    )


def _advice(row: Signature) -> str:
    """Which flag takes it, or what is read here."""
    flag = FLAGS.get(row.role)
    if row.advice:
        return row.advice
    if flag and row.read_by:
        return f"give it with {flag}"
    if flag:
        return f"{flag} takes those of {READ.get(row.role, UNETS)}"
    return f"cnctl reads bases, ControlNets and LoRAs of {FAMILIES}, embeddings of {UNETS}"


def _configs(folder: Path, role: str) -> Iterator[tuple[Path, str]]:
    """Where a folder says what it holds."""
    whole = [(folder, INDEX), (folder / "transformer", CONFIG)]
    control = [(folder / "controlnet", CONFIG), (folder, CONFIG)]
    if role == BASE:
        places = whole if (folder / INDEX).is_file() else [*whole, (folder, CONFIG)]
    else:
        places = [*control, *whole]
    yield from ((place, name) for place, name in places if (place / name).is_file())


def _read_class(path: Path) -> str:
    with suppress(OSError, ValueError, RecursionError):
        config = json.loads(path.read_text(encoding="utf-8"))
        name = config.get("_class_name") if isinstance(config, dict) else None
        return name if isinstance(name, str) else ""
    return ""


def _holds(rule: str, text: str) -> bool:
    return all(
        (_pattern(term.removeprefix("!")).search(text) is None) == term.startswith("!")
        for term in rule.split(" & ")
    )


@functools.cache
def _pattern(term: str) -> re.Pattern[str]:
    """A term as a regular expression over lines of NAME=SHAPE."""
    return re.compile("|".join(_line(name) for name in term.split(" | ")), re.MULTILINE)


def _line(name: str) -> str:
    # Without anchors where any text may stand there, because that is much faster.
    begin = "" if name.startswith("*") else "^"
    whole = name if "=" in name else f"{name}=*"
    end = "" if whole.endswith("*") else "$"
    inner = whole.strip("*").split("*")
    return begin + ".*".join(map(re.escape, inner)) + end
