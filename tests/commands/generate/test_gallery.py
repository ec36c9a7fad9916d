"""Hints that no picture format can hold are shown as pictures."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.commands.generate import gallery
from cnctl.commands.info import ImageInfo, info
from cnctl.images import read_hint_as_stored, read_image, write_hint


@pytest.mark.parametrize("channels", [2, 6])
def test_a_hint_of_other_channels_is_shown(tmp_path: Path, channels: int) -> None:
    hint = np.random.default_rng(0).integers(0, 256, (8, 12, channels), dtype=np.uint8)
    path = tmp_path / "hint.npz"
    write_hint(path, hint, metadata={"cnctl": json.dumps({"condition": "six"})})
    assert np.array_equal(read_hint_as_stored(path), hint)
    head, _, content = gallery._url_of_hint(path, tmp_path).partition(",")
    assert head == "data:image/png;base64"
    shown = read_image(base64.b64decode(content), name="hint")
    expected = np.zeros((8, 12, 3), np.uint8)
    expected[..., : min(channels, 3)] = hint[..., :3]
    assert np.array_equal(shown, expected)
    about = info(path)
    assert isinstance(about, ImageInfo)
    assert about.metadata["cnctl"] == {"condition": "six"}
