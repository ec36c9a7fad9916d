"""Read image files upright and in sRGB."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

from cnctl.errors import CnctlError
from cnctl.images.bits import eight_bits
from cnctl.images.damage import FORMATS
from cnctl.images.opening import (
    MAX_PIXELS,
    decoded,
    load,
    opened,
    read_named,
    refusal,
    turn_upright,
    without_warnings,
)


@dataclass(frozen=True)
class Picture:
    """A decoded image file.

    pixels: as `read_image` returns them, but read-only. frames: how many frames, or pages, the file
    has, of which the first is read. is_lossy: whether its format loses detail, as JPEG does.
    suffix: ".jpg", ".png" or ".webp" where every reader shows the file as these pixels; "" for
    another format, one of 16 bits of grey or with transparent pixels, which others clip and show in
    their hidden colours, and one that only its EXIF orientation turns upright.
    """

    pixels: np.ndarray
    frames: int
    is_lossy: bool
    suffix: str

    def describe_frames(self, name: str) -> str:
        """Say in one line that of several frames the first is read; "" for a file with one."""
        return f"{name} has {self.frames} frames; the first is read" if self.frames > 1 else ""


def read_image(
    source: str | Path | bytes, *, name: str = "", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Return an image file, or the bytes of one, as RGB uint8 (H, W, 3) in sRGB, upright.

    EXIF orientation is applied, alpha is blended with white, an embedded ICC profile is applied
    (CMYK without one is converted plainly), 16 bits are scaled to 8, and of an
    animation the first frame is read. A broken profile or EXIF block is ignored, as browsers do.
    name: what messages call bytes.
    """
    data, found = read_named(source)
    name = name or found
    with decoded(data, name, max_pixels) as image:
        return np.array(_to_rgb(image, name))


def read_picture(
    source: str | Path | bytes, *, name: str = "", max_pixels: int = MAX_PIXELS
) -> Picture:
    """Return an image file as `read_image` reads it, with what else is known of the file.

    Where its frames cannot be counted it is refused, also if the first could be read.
    """
    data, found = read_named(source)
    name = name or found
    with opened(data, name) as image:
        frames = _count_frames(image)
        load(image, name, max_pixels)
        suffix = _copied_suffix(image)  # before its orientation is applied
        turn_upright(image)
        return Picture(
            pixels=np.asarray(_to_rgb(image, name)),
            frames=frames,
            is_lossy=image.format in ("JPEG", "MPO", "WEBP"),
            suffix=suffix,
        )


def read_size(source: str | Path | bytes) -> tuple[int, int]:
    """Return (height, width) of an image as `read_image` returns it, from its header alone.

    Damage after the header is not detected.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with without_warnings(), Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            return (width, height) if _is_on_its_side(image) else (height, width)
    except Exception as error:
        data, name = read_named(source)
        raise refusal(data, name, error) from error


def _count_frames(image: Image.Image) -> int:
    # The further frames of a photograph (MPO) are previews of it.
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _copied_suffix(image: Image.Image) -> str:
    if image.mode.startswith(("I", "F")) or _is_transparent(image):
        return ""
    with contextlib.suppress(Exception):  # a broken EXIF block is ignored
        if image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1):
            return ""
    return {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}.get(str(image.format), "")


def _is_transparent(image: Image.Image) -> bool:
    """Whether any pixel is; an alpha channel may be opaque everywhere."""
    if not image.has_transparency_data:
        return False
    return bool(np.asarray(image.convert("RGBA"))[:, :, 3].min() < 255)


def to_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Scale 16-bit grey: Pillow's own conversion clips it, and 99 % turns white."""
    if image.mode.startswith("I;16"):
        scaled = Image.fromarray(eight_bits(np.asarray(image, np.uint16)))
        scaled.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
        return scaled
    if image.mode in ("I", "F"):
        raise CnctlError(
            f"{name} has 32-bit samples, which have no defined black and white",
            hint="store it with 8 or 16 bits per channel",
        )
    return image


def flatten(image: Image.Image, *, background: int) -> Image.Image:
    """Return an RGBA image as RGB, blended with the background; another as it is."""
    if image.mode != "RGBA":
        return image
    below = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(below, image).convert("RGB")


def _is_on_its_side(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return False  # Pillow applies the orientation to `size` itself
    with contextlib.suppress(Exception):  # a broken EXIF block is ignored
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) >= 5)
    return False


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Return RGB in sRGB, on white where the image is transparent."""
    return flatten(_to_srgb(to_eight_bits(image, name)), background=255)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Return RGB or RGBA in sRGB."""
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    colours = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
    converted = _apply_profile(colours, image.info.get("icc_profile")) or colours
    if converted.mode != "RGB":  # else it would be copied
        converted = converted.convert("RGB")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _apply_profile(image: Image.Image, icc: bytes | None) -> Image.Image | None:
    """Return `image` in sRGB, or None where the profile is absent, broken or already sRGB."""
    if not icc:
        return None
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        profile = ImageCms.getOpenProfile(io.BytesIO(icc))
        if image.mode == "RGB" and _is_srgb(profile):
            return None  # an exact copy: a transform would move values by one
        return ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    return None


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    description = ImageCms.getProfileDescription(profile).lower()
    return "srgb" in description and "linear" not in description
