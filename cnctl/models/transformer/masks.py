"""ControlNets for inpainting, which read a mask beside their hint."""

from __future__ import annotations

from cnctl.errors import CnctlError
from cnctl.models.transformer.source import Source

ODDITY = "it reads a mask beside its hint: give it hints that carry one, as those of inpaint do"


def check_mask(source: Source, extra: int, *, of_mask: int, masked: bool) -> None:
    """Raise CnctlError where a ControlNet's hints need what is not there, or is not known.

    extra: channels that it reads beside the hint's latents. of_mask: as many as a mask has. masked:
    whether hints carry one.
    """
    if extra not in (0, of_mask):
        raise CnctlError(
            f"{source.path} reads {extra} channels beside its hint, where a mask has {of_mask}",
            hint="any base inpaints by --image and --mask",
        )
    if extra and not masked:
        raise CnctlError(
            f"{source.path} reads a mask beside its hint, and these hints carry none",
            hint="choose a condition whose hints do: --cond inpaint",
        )
