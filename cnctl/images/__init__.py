"""Image files: the only package that touches them."""

from cnctl.errors import shown
from cnctl.images.bits import eight_bits
from cnctl.images.find import (
    SUFFIXES,
    UNREADABLE_PHOTOS,
    ImageFile,
    find_images,
    matched_images,
    names_a_file,
)
from cnctl.images.fit import Resize, cover, fit_hint, fit_image, fit_pair, working_size
from cnctl.images.mask import read_mask
from cnctl.images.opening import MAX_BYTES, MAX_PIXELS, read_bytes
from cnctl.images.read import Picture, read_image, read_picture, read_size
from cnctl.images.stored import read_hint, read_hint_as_stored, read_metadata, read_values
from cnctl.images.terminal import draw, half_blocks
from cnctl.images.write import (
    check_folder,
    check_output,
    encode_hint,
    encode_image,
    hint_suffix,
    write_file,
    write_hint,
    write_image,
    write_same,
)

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "SUFFIXES",
    "UNREADABLE_PHOTOS",
    "ImageFile",
    "Picture",
    "Resize",
    "check_folder",
    "check_output",
    "cover",
    "draw",
    "eight_bits",
    "encode_hint",
    "encode_image",
    "find_images",
    "fit_hint",
    "fit_image",
    "fit_pair",
    "half_blocks",
    "hint_suffix",
    "matched_images",
    "names_a_file",
    "read_bytes",
    "read_hint",
    "read_hint_as_stored",
    "read_image",
    "read_mask",
    "read_metadata",
    "read_picture",
    "read_size",
    "read_values",
    "shown",
    "working_size",
    "write_file",
    "write_hint",
    "write_image",
    "write_same",
]
