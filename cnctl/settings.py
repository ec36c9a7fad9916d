"""Settings as frozen values, and where each default comes from.

A value is taken from the first that gives one: flag, environment (CNCTL_GENERATE_STEPS=30), config
file, the base model, the condition, and at last the field's default below. Config files are
`cnctl.toml` in the working folder, [tool.cnctl] in its pyproject.toml, and the user's own:

    base = "sd15"
    [generate]
    steps = 30
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from cnctl.errors import CnctlError

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class AnnotateSettings:
    """The making of hints."""

    SECTION: ClassVar[str] = "annotate"

    resolution: int = 512
    """Short side of the hint in pixels."""


KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
"""What a type is called where a text is not of it."""


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """One run of the denoising loop. Defaults are the paper's (section 4.1)."""

    SECTION: ClassVar[str] = "generate"

    steps: int = 20
    guidance_scale: float = 9.0
    control_scale: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    control_mode: str = "balanced"
    """"balanced", "prompt" or "control": which of the two counts more."""
    resolution: int = 512
    """Short side of the image in pixels."""
    resize: str = "stretch"
    """What becomes of a hint of another aspect: "stretch", "crop" or "fill"."""
    scheduler: str = "ddim"
    emphasis: bool = False
    """Read (word:1.3) and [word] in prompts as the web interfaces do."""
    clip_skip: int = 1
    """The layer of the text encoder that is read, counted from the end as they do."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training run. Defaults are the paper's (sections 3.3 and 4.3) where it states them."""

    SECTION: ClassVar[str] = "train"

    steps: int = 10_000
    """Optimizer steps."""
    batch_size: int = 4
    """Examples at once."""
    gradient_accumulation: int = 1
    """Batches per optimizer step, whose gradients are averaged."""
    num_processes: int = 1
    """Processes that train together, each with a device of its own and batches of its own."""
    optimizer: str = "adamw"
    """"adamw", or "adamw8bit" of bitsandbytes, whose moments take a quarter of the memory."""
    learning_rate: float = 1e-5
    lr_warmup: int = 0
    """Steps in which the learning rate rises to its full value."""
    lr_schedule: str = "constant"
    """"constant", or "cosine" to fall to zero at the last step."""
    max_grad_norm: float = 0.0
    """Norm to which longer gradients are shortened; 0 for any length."""
    ema: float = 0.0
    """Decay of the averaged weights, which are then what is shown and exported; 0 for none."""
    prompt_dropout: float = 0.5
    """Probability with which a prompt is replaced by the empty one, per sample and step."""
    snr_gamma: float = 0.0
    """Min-SNR weighting of the loss (5 is usual); 0 is the paper's equation 10."""
    resolution: int = 512
    buckets: bool = False
    """Train on sizes of many aspects, each of about `resolution` squared, not on squares alone."""
    random_crop: bool = False
    """Cut images and hints alike at a random place, not in the middle."""
    flip: bool = False
    """Mirror half of the images and hints, at random."""
    seed: int = 0
    method: str = "controlnet"
    """How control is attached: by a "controlnet", or "input-concat", the ablation of figure 20."""
    connect: str = "all"
    """"all" thirteen residuals, or "middle" for the middle block alone (section 3.4)."""
    hint_encoder: str = "released"
    """"released", or "paper" for the form that the paper's text describes."""
    hint_start: str = "gaussian"
    """Weights that a fresh hint encoder starts from: "gaussian", or PyTorch's own, "torch"."""
    lora: int = 0
    """Rank of the low-rank adapters that stand for the copy; 0 to train the copy itself."""
    unlock_after: int = 0
    """Steps after which the base learns along (section 3.4); 0 for never."""
    unlock: str = "decoder"
    """What then learns: the base's "decoder", or "all" of its U-Net."""
    checkpoint_every: int = 500
    preview_every: int = 100
    """Steps between previews with a score of fidelity; 0 for none."""
    preview_steps: int = 20
    """Denoising steps of a preview."""
    on_convergence: str = "continue"
    """When control has set in (figure 21): "continue", "stop", or "accumulate=N" for N times the
    batch in each step from then on."""
    tracker: str = ""
    """Of experiments, one that accelerate knows: "tensorboard", "wandb", ...; "" for none."""
    largest: int = 0
    """Learn only from so many examples, those with the most pixels; 0 for all."""
    sample: int = 0
    """Learn only from so many of them, drawn by the seed; 0 for all."""
    held_out: int = 16
    """Examples that are not trained on, to measure fidelity of control."""
    gradient_checkpointing: bool = False
    """Keep less for the way back and compute it again: a quarter more work."""
    channels_last: bool = False
    """Lay out convolutions as tensor cores prefer."""
    compile: bool = False
    """Compile both networks by torch.compile."""
    workers: int = 0
    """Processes that read data beside the training one."""

    @property
    def effective_batch(self) -> int:
        """Examples per optimizer step."""
        return self.batch_size * self.gradient_accumulation * self.num_processes


def resolve(
    kind: type[Settings],
    *defaults: Mapping[str, Any],
    flags: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings of this kind from flags, environment, config file, then `defaults` (first wins).

    A flag that is None was not given. Keys of `defaults` that the kind lacks are ignored.
    """
    config = read_config() if config is None else config
    given = {name: value for name, value in flags.items() if value is not None}
    sources = [given, _from_environment(kind, environ), _from_config(kind, config)]
    values: dict[str, Any] = {}
    for source in [*sources, *defaults]:
        for name in _types(kind).keys() & source.keys():
            values.setdefault(name, source[name])
    return kind(**values)


def parse_setting(kind: type[Settings], name: str, text: str) -> Any:
    """A setting's value from text, as its own type; CnctlError where there is no such one."""
    types = _types(kind)
    if name not in types:
        near = difflib.get_close_matches(name, types, n=1)
        known = f"did you mean {near[0]}?" if near else f"there are {', '.join(types)}"
        raise CnctlError(f"there is no setting {name!r}", hint=known)
    return _from_text(types[name], text, name, hint="give")


def configured_base() -> str | None:
    """The base model that the config file names, or None."""
    return read_config().get("base")


def read_config(folder: Path | None = None) -> dict[str, Any]:
    """The nearest `cnctl.toml` or [tool.cnctl], over the user's own; {} where there is none."""
    folder = folder or Path.cwd()
    user = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "cnctl.toml"
    project = folder / "cnctl.toml"
    pyproject = folder / "pyproject.toml"
    found = [_read_toml(user), _read_toml(pyproject).get("tool", {}).get("cnctl", {})]
    merged: dict[str, Any] = {}
    for content in [*found, _read_toml(project)]:
        for key, value in content.items():
            both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merged[key] | value if both_tables else value
    return merged


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CnctlError(f"{path} is not valid TOML: {error}", hint="mend or remove it") from error


def _types(kind: type) -> dict[str, type]:
    """Field names with their types."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _from_environment(kind: type, environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for name, to_type in _types(kind).items():
        variable = f"CNCTL_{kind.SECTION}_{name}".upper()  # type: ignore[attr-defined]
        if variable not in environ:
            continue
        text = environ[variable]
        values[name] = _from_text(to_type, text, variable, hint=f"unset {variable} or give")
    return values


def _from_text(to_type: type, text: str, name: str, *, hint: str) -> Any:
    try:
        return (_to_bool if to_type is bool else to_type)(text)
    except ValueError as error:
        wanted = KINDS[to_type]
        raise CnctlError(f"{name}={text!r} is not {wanted}", hint=f"{hint} {wanted}") from error


def _to_bool(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in words:
        raise ValueError
    return words[text.lower()]


def _from_config(kind: type, config: Mapping[str, Any]) -> dict[str, Any]:
    section: str = kind.SECTION  # type: ignore[attr-defined]
    types = _types(kind)
    values = {}
    for name, value in config.get(section, {}).items():
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            known = f"did you mean {near[0]}?" if near else f"it knows {', '.join(types)}"
            raise CnctlError(f"the config file has {name!r} under [{section}]", hint=known)
        wanted = (int, float) if types[name] is float else types[name]
        if not isinstance(value, wanted) or isinstance(value, bool) != (types[name] is bool):
            raise CnctlError(
                f"the config file has {name} = {value!r} under [{section}]",
                hint=f"give a {types[name].__name__}",
            )
        values[name] = types[name](value)
    return values
