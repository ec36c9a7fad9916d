"""The known families of U-Nets: what their shapes determine, and what they do not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class KnownFamily:
    """One family of bases with a U-Net."""

    name: str
    widths: tuple[int, ...]
    """Channels of each block of the encoder."""
    layers: int = 2
    """Residual layers per block."""
    text_width: int
    """Width of the text features that cross-attention reads."""
    label_width: int = 0
    """Width of SDXL's second embedding (pooled text and sizes)."""
    latents: int = 4
    """Channels of the latents; inpainting bases of the family have more."""
    heads: int | tuple[int, ...]
    """Of each attention; per block where they differ. No shape determines it."""
    upcast: bool = False
    """Attention overflows half precision unless it is computed in float32. No shape says it."""
    groups: int = 32
    """Of each normalisation. No shape determines it."""
    linear: bool = False
    """Attention projects by a linear layer instead of a 1x1 convolution."""
    takes_control: bool = True


KNOWN = (
    KnownFamily(name="SD 1.x", widths=(320, 640, 1280, 1280), text_width=768, heads=8),
    KnownFamily(
        name="SD 2.x",
        widths=(320, 640, 1280, 1280),
        text_width=1024,
        heads=(5, 10, 20, 20),
        upcast=True,
        linear=True,
    ),
    KnownFamily(
        name="SDXL",
        widths=(320, 640, 1280),
        text_width=2048,
        label_width=2816,
        heads=(5, 10, 20),
        linear=True,
    ),
    KnownFamily(
        name="SDXL refiner",
        widths=(384, 768, 1536, 1536),
        text_width=1280,
        label_width=2560,
        heads=(6, 12, 24, 24),
        linear=True,
        takes_control=False,
    ),
    KnownFamily(
        name="tiny", widths=(48, 64, 96, 128), text_width=128, latents=8, heads=2, groups=16
    ),
)


def find_known(
    widths: tuple[int, ...], text_width: int, *, layers: int = 2, label_width: int | None = None
) -> KnownFamily | None:
    """The family of an encoder of this shape.

    text_width: 0 where no attention determines it. label_width: None where it is not known.
    """
    for family in KNOWN:
        if (
            widths == family.widths
            and layers == family.layers
            and text_width in (family.text_width, 0)
            and label_width in (family.label_width, None)
        ):
            return family
    return None
