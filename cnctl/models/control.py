"""Control of one denoising run: how strongly each ControlNet acts, when, and on which half.

The modes are those that users of the web interfaces know; "control" is the original's guess mode.
A branch does not run where it has no effect.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.text_features import TextFeatures

if TYPE_CHECKING:
    from cnctl.models.network import Network

EDIT_CHANNELS = 4
"""Of an image to fill in, behind a hint: see `Network.reads_edit`."""
MODES = ("balanced", "prompt", "control")
FIRST_STEPS = 4
"""In which a branch always runs: there the layout of the image is decided."""
FADE = 0.825
"""Scale of a residual over that of the next deeper one, in the modes "prompt" and "control"."""


@dataclass(frozen=True)
class Control:
    """One ControlNet with its hint.

    hint: float (1 or B, hint_channels, H, W) as `hint_tensor` makes it, with an image to fill in
    behind where the network reads one. start, end: the part of
    the steps in which it acts, as fractions. mode: "balanced" acts alike everywhere; "prompt"
    fades towards the upper residuals, by 0.825 ** (12 - i) for the i-th of 13; "control" does so
    too, and acts only on the half of the guidance that sees the prompt. scale, and further factors
    where given: step_scales, one per step; residual_scales, one per residual, from the first block
    to the last: in a U-Net the skips from the top, then the middle block. region: float
    (1, 1, H, W) in [0, 1], by which it is multiplied in each place; None for 1 everywhere.
    """

    network: Network
    hint: Tensor
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: str = "balanced"
    step_scales: Sequence[float] = ()
    residual_scales: Sequence[float] = ()
    region: Tensor | None = None

    @property
    def conditional_only(self) -> bool:
        """Whether it acts only on the half of the guidance that sees the prompt."""
        return self.mode == "control" or self.network.conditional_only

    def scales_at(self, step: int, steps: int) -> list[float]:
        """The scale of each residual at this step, counted from 0, of so many."""
        count = self.network.residual_count
        if not (step / steps >= self.start and (step + 1) / steps <= self.end):
            return [0.0] * count
        now = self.step_scales[step * len(self.step_scales) // steps] if self.step_scales else 1.0
        faded = [FADE ** (count - 1 - i) if self.mode != "balanced" else 1.0 for i in range(count)]
        own = self.residual_scales or [1.0] * count
        return [self.scale * now * f * o for f, o in zip(faded, own, strict=True)]

    def acts_at(self, step: int, steps: int) -> bool:
        """Whether it has any effect at this step, counted from 0, of so many."""
        return self._reaches and any(self.scales_at(step, steps))

    @functools.cached_property
    def _reaches(self) -> bool:
        """Whether there is a place where it acts; asked once, for a device would be waited for."""
        return self.region is None or bool(self.region.any())

    def on_device(self, device: torch.device) -> Control:
        """The same with its region there, which each step reads."""
        return self if self.region is None else replace(self, region=self.region.to(device))


class ControlRunner:
    """The controls of one run that ever act, each with its hint encoded once.

    guided: whether there are steps with guidance. every: a branch runs in the first `FIRST_STEPS`
    in which it acts, and then in every N-th of them; between, what it gave last is used again.
    1 is exact.
    """

    def __init__(
        self,
        base: Base,
        controls: Sequence[Control],
        *,
        steps: int,
        guided: bool,
        every: int = 1,
    ) -> None:
        self.base, self.steps, self.guided, self.every = base, steps, guided, every
        self._last: dict[int, Residuals] = {}
        """What each branch gave last, where that is used again."""
        self._was_guided = guided
        """At the last step."""
        self._acted: Counter[int] = Counter()
        """In how many steps each has acted."""
        self.encoded = [
            (control.on_device(base.device), self._encode(control))
            for control in controls
            if any(control.acts_at(step, steps) for step in range(steps))
        ]

    def residuals(
        self, step: int, latents: Tensor, timestep: Tensor, text: TextFeatures, *, guided: bool
    ) -> Residuals | None:
        """What all controls together add at this step; None where none of them acts.

        latents (B, C, h, w) and text: both halves of the guidance where `guided`, the one without
        the prompt first.
        """
        if guided != self._was_guided:  # what is kept is of another number of images
            self._last.clear()
        self._was_guided = guided
        added = [
            self._run(number, step, latents=latents, timestep=timestep, text=text)
            for number, (control, _) in enumerate(self.encoded)
            if control.acts_at(step, self.steps)
        ]
        return functools.reduce(operator.add, added) if added else None

    def _encode(self, control: Control) -> EncodedHint:
        # One at a time, so that batches agree.
        hints = (hint[None] for hint in control.hint)
        parts = [control.network.encode_hint(self.base, hint).features for hint in hints]
        features = torch.cat(parts)
        if len(features) > 1 and self.guided and not self._on_half(control):
            features = torch.cat([features, features])
        return EncodedHint(features, scale=control.scale)

    def _on_half(self, control: Control) -> bool:
        """Whether it runs on the half of the guidance with the prompt alone."""
        return control.conditional_only or self.base.family.controls_read_prompt

    def _run(
        self,
        number: int,
        step: int,
        *,
        latents: Tensor,
        timestep: Tensor,
        text: TextFeatures,
    ) -> Residuals:
        control, hint = self.encoded[number]
        half = self._was_guided and self._on_half(control)
        if self.guided and not self._was_guided:
            hint = self._of_one_half(hint, control)
        if self._is_due(number):
            if half:
                latents, text = latents.chunk(2)[1], text.second_half()
            residuals = control.network.residuals(self.base, latents, timestep, text, hint)
            if self.every > 1:
                self._last[number] = residuals
        else:
            residuals = self._last[number]
        residuals = residuals.scaled(control.scales_at(step, self.steps))
        if control.region is not None:
            residuals = residuals.within(control.region)
        if not half:
            return residuals
        only = control.conditional_only
        return residuals.on_second_half() if only else residuals.on_both_halves()

    def _of_one_half(self, hint: EncodedHint, control: Control) -> EncodedHint:
        if len(control.hint) == 1 or self._on_half(control):
            return hint
        return replace(hint, features=hint.features.chunk(2)[1])

    def _is_due(self, number: int) -> bool:
        """Count one more step in which this control acts; whether its branch runs in it."""
        after = self._acted[number] - FIRST_STEPS
        self._acted[number] += 1
        return after < 0 or after % self.every == 0 or number not in self._last


def check_control(control: Control, count: int, *, height: int, width: int, steps: int) -> None:
    """Raise CnctlError where a control does not fit `count` images of this size in these steps."""
    _check_hint(control, count, height=height, width=width)
    _check_region(control.region, height=height, width=width)
    if not 0 <= control.start <= control.end <= 1:
        raise CnctlError(
            f"control_start is {control.start} and control_end {control.end}",
            hint="give 0 <= start <= end <= 1",
        )
    if control.mode not in MODES:
        raise CnctlError(
            f"unknown control mode {control.mode!r}", hint=f"use {', '.join(MODES[:-1])} or control"
        )
    check_scale_counts(
        control.step_scales,
        control.residual_scales,
        steps=steps,
        residuals=control.network.residual_count,
    )


def check_every(every: int, *, reads_tokens: bool) -> None:
    """Raise CnctlError where `every` asks to use residuals in other steps than their own.

    reads_tokens: see `Network.reads_tokens`.
    """
    if every > 1 and reads_tokens:
        raise CnctlError(
            "a blockwise ControlNet runs in each step, because it reads the base's tokens there",
            hint="leave out --control-every",
        )


def check_scale_counts(
    step_scales: Sequence[float], residual_scales: Sequence[float], *, steps: int, residuals: int
) -> None:
    """Raise CnctlError where the number of scales does not match steps, or residuals."""
    if len(step_scales) not in (0, steps):
        raise CnctlError(
            f"{len(step_scales)} step scales for {steps} steps", hint="give one per step"
        )
    if len(residual_scales) not in (0, residuals):
        raise CnctlError(
            f"{len(residual_scales)} residual scales for {residuals} residuals",
            hint="give one for each, from the first block to the last",
        )


def _check_region(region: Tensor | None, *, height: int, width: int) -> None:
    if region is not None and tuple(region.shape) != (1, 1, height, width):
        raise CnctlError(
            f"a region of shape {tuple(region.shape)} for images of {width}x{height}",
            hint="give (1, 1, height, width)",
        )


def _check_hint(control: Control, count: int, *, height: int, width: int) -> None:
    channels, hint = control.network.hint_channels, control.hint
    read = (channels, channels + EDIT_CHANNELS) if control.network.reads_edit else (channels,)
    if hint.ndim != 4 or hint.shape[0] not in (1, count) or hint.shape[1] not in read:
        raise CnctlError(
            f"a hint of shape {tuple(hint.shape)} for {count} image(s)",
            hint=f"this ControlNet reads (1 or {count}, {channels}, height, width)",
        )
    if tuple(hint.shape[2:]) != (height, width):
        raise CnctlError(
            f"the hint has {hint.shape[3]}x{hint.shape[2]} pixels, the image {width}x{height}",
            hint="fit the hint to the image first",
        )
    if not hint.is_floating_point() or hint.max() > 1 or hint.min() < -1:
        raise CnctlError("the hint's values are not in [0, 1]", hint="divide bytes by 255")
