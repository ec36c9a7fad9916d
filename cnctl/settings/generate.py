"""Settings of `cnctl generate`, which `cnctl evaluate` and the previews of training share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cnctl.settings.declaration import Declared, Flag, at_least, at_most, one_of

BY_CONDITION = "{}, or by base or condition"


@dataclass(frozen=True, kw_only=True)
class GenerateSettings(Declared):
    """One run of the denoising loop. Defaults are the paper's (section 4.1)."""

    SECTION: ClassVar[str] = "generate"

    steps: Annotated[int, Flag("Denoising steps.", default=BY_CONDITION), at_least(1)] = 20
    guidance_scale: Annotated[float, Flag("Weight of the prompt.", default=BY_CONDITION)] = 9.0
    guidance_start: Annotated[
        float, Flag("Fraction of the steps where guidance begins."), at_least(0), at_most(1)
    ] = 0.0
    guidance_end: Annotated[
        float, Flag("Fraction of the steps where guidance ends."), at_least(0), at_most(1)
    ] = 1.0
    """Other steps read the prompt alone, which is half the work (Kynkäänniemi et al., 2024)."""
    distilled_guidance: Annotated[
        float,
        Flag("Scale of guidance that a distilled base (FLUX.1 dev) reads.", default="the base's"),
        at_least(0),
    ] = 0.0
    control_scale: Annotated[float, Flag("Strength of control.", default=BY_CONDITION)] = 1.0
    control_start: Annotated[
        float, Flag("Fraction of the steps where control begins."), at_least(0), at_most(1)
    ] = 0.0
    control_end: Annotated[
        float, Flag("Fraction of the steps where control ends."), at_least(0), at_most(1)
    ] = 1.0
    control_every: Annotated[
        int,
        Flag("Run the ControlNet in the first 4 steps, then in every N-th; approximate."),
        at_least(1),
    ] = 1
    """Between, what it added last is added again."""
    control_mode: Annotated[
        str,
        Flag(
            "Whether prompt or control counts more; once for all, or once per --cond.", repeat=True
        ),
        one_of("balanced", "prompt", "control"),
    ] = "balanced"
    resolution: Annotated[
        int,
        Flag("Short side in pixels.", default="the base's own"),
        at_least(1),
    ] = 512
    resize: Annotated[
        str, Flag("How to fit a hint with another aspect ratio."), one_of("stretch", "crop", "fill")
    ] = "stretch"
    scheduler: Annotated[
        str,
        Flag("ddim, any of diffusers', or a web interface's: 'DPM++ 2M Karras'."),
    ] = "ddim"
    emphasis: Annotated[
        bool, Flag("Read (word:1.3) and [word] in prompts as the web interfaces do.")
    ] = False
    clip_skip: Annotated[
        int,
        Flag("Layer of the text encoder to read, counted from the end."),
        at_least(1),
    ] = 1
