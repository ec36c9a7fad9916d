"""Which form a file of a ControlNet has: from its tensors' names, never from the file's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.architecture import UNION_MARK
from cnctl.tensorfiles.expected import first_few

PREFIX = "control_model."
FULL = "original, full checkpoint"
"""Label of the form that carries its own base."""

COMPANIONS = {
    "model.diffusion_model.": "the U-Net of Stable Diffusion",
    "first_stage_model.": "the VAE",
    "cond_stage_model.": "the text encoder",
    "model_ema.": "averaged weights of the U-Net",
}
SCHEDULE = frozenset(
    {
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "betas",
        "log_one_minus_alphas_cumprod",
        "logvar",
        "lvlb_weights",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "posterior_variance",
        "scale_factor",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
    }
)

# An empty tensor of this name marks what is whole with a base only: mark -> what the file holds.
MARKS = {"difference": "webui difference", "lora_controlnet": "Control-LoRA"}


@dataclass(frozen=True)
class Form:
    """name: "diffusers", "original" or "bare"; prefix: what stands before each tensor's name."""

    name: str
    label: str
    prefix: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    """What else lies in the file: description -> number of tensors."""
    mark: str = ""
    """One of MARKS where the file is whole with a base only."""


def detect(names: Iterable[str]) -> Form:
    """The form of a file; CnctlError, with five of its keys, where it is not a ControlNet's."""
    names = list(names)
    dropped = dict(sorted(Counter(what for name in names if (what := _companion(name))).items()))
    if mark := next((mark for mark in MARKS if mark in names), ""):
        prefix = PREFIX if any(name.startswith(PREFIX) for name in names) else ""
        return Form("bare", MARKS[mark], prefix, dropped, mark)
    if any(name.startswith("controlnet_cond_embedding.") for name in names):
        label = "diffusers, union" if UNION_MARK in names else "diffusers"
        return Form("diffusers", label, dropped=dropped)
    if any(name.startswith(PREFIX) for name in names):
        full = any(name.startswith("model.diffusion_model.") for name in names)
        label = FULL if full else "original, ControlNet alone"
        return Form("original", label, PREFIX, dropped)
    if any(name.startswith("input_hint_block.") for name in names):
        return Form("bare", "original, bare keys", dropped=dropped)
    raise CnctlError(
        "this file holds no ControlNet of a known form; its keys begin "
        + (first_few(sorted(names)) or "(none)"),
        hint="cnctl reads ControlNets for Stable Diffusion 1.x, 2.x and XL",
    )


def select(names: Iterable[str], form: Form) -> dict[str, str]:
    """Name without prefix -> name in the file, without the known companions."""
    own = [name for name in names if name != form.mark and not _companion(name)]
    strangers = [name for name in own if not name.startswith(form.prefix)]
    if strangers:
        raise CnctlError(
            f"{len(strangers)} unknown tensors beside the ControlNet: {first_few(strangers)}",
            hint="nothing was converted; report which program made this file",
        )
    return {name.removeprefix(form.prefix): name for name in own}


def _companion(name: str) -> str:
    """What a known companion of the ControlNet is; "" for everything else."""
    if name in SCHEDULE:
        return "buffers of the noise schedule"
    if name.endswith(".position_ids"):
        return "position ids of the text encoder"
    return next((what for start, what in COMPANIONS.items() if name.startswith(start)), "")
