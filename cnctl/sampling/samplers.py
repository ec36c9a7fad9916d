"""The web interfaces' names of samplers: diffusers' schedulers, and how they space their steps."""

from __future__ import annotations

import re

SAMPLERS = {
    "DDIM": "DDIM",
    "DDPM": "DDPM",
    "DEIS": "DEISMultistep",
    "DPM++ 2M": "DPMSolverMultistep",
    "DPM++ 2S": "DPMSolverSinglestep",
    "DPM2": "KDPM2Discrete",
    "DPM2 a": "KDPM2AncestralDiscrete",
    "Euler": "EulerDiscrete",
    "Euler a": "EulerAncestralDiscrete",
    "Heun": "HeunDiscrete",
    "LCM": "LCM",
    "LMS": "LMSDiscrete",
    "PLMS": "PNDM",
    "TCD": "TCD",
    "UniPC": "UniPCMultistep",
}
"""Their names -> diffusers' classes, without "Scheduler"."""
SCHEDULERS = (
    *("ddim", "ddpm", "deis", "dpm_solver_multistep", "dpm_solver_singlestep", "kdpm2"),
    *("kdpm2_ancestral", "euler", "euler_ancestral", "heun", "lcm", "lms", "pndm", "tcd", "unipc"),
    *("flow_match_euler", "flow_match_heun"),
)
"""The same ones by diffusers' names in snake case, and those that suit a flow."""
SPACINGS = {
    "karras": "use_karras_sigmas",
    "exponential": "use_exponential_sigmas",
    "beta": "use_beta_sigmas",
}
"""How the noise levels of the steps are spaced -> the argument of diffusers' schedulers."""


def split_spacing(name: str) -> tuple[str, str]:
    """A scheduler's name without its spacing, and the spacing or "": "DPM++ 2M Karras"."""
    match = re.fullmatch(rf"(.+?)[ _-]({'|'.join(SPACINGS)})", name.strip(), re.IGNORECASE)
    return (match[1], match[2].lower()) if match else (name, "")


def class_of_sampler(name: str) -> str | None:
    """The diffusers class, without "Scheduler", of a web interface's sampler; None for others."""
    known = {sampler.lower(): kind for sampler, kind in SAMPLERS.items()}
    return known.get(" ".join(name.lower().split()))


def sampler_of_class(kind: str) -> str:
    """What the web interfaces call a diffusers class; its own name where they lack it."""
    plain = kind.removesuffix("Scheduler")
    return next((sampler for sampler, known in SAMPLERS.items() if known == plain), plain)
