"""Families of bases by shape, from configs alone."""

import json
from pathlib import Path

import pytest

from cnctl.errors import CnctlError
from cnctl.models.families import load_base, read_family
from cnctl.models.unet.shape import Shape, check_same_shape, shape_of

SD15 = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768}
SD21 = {**SD15, "cross_attention_dim": 1024}


class TestFamily:
    def test_of_the_embedded_base(self) -> None:
        assert read_family("tiny").name == "tiny"
        assert load_base("tiny").family == read_family("tiny")

    def test_of_something_else(self, random_base: Path) -> None:
        family = read_family(random_base)
        config = json.loads((random_base / "unet" / "config.json").read_text())
        assert shape_of(config) == Shape("", 32, (16, 32, 32, 32), 1, 4)
        assert family.name == "U-Net 16-32-32-32 with text width 32"

    def test_no_weights_are_read(self, own_base: Path) -> None:
        for path in own_base.glob("*/*.safetensors"):
            path.unlink()
        assert read_family(own_base).name.endswith("text width 32")

    @pytest.mark.parametrize(
        ("channels", "message", "hint"),
        [
            (9, "own is made for inpainting and reads a mask beside the latents", "--mask"),
            (8, "own reads 8 channels, of which 4 are latents", "give the base that it was made"),
        ],
    )
    def test_what_reads_more_than_latents_is_refused_from_its_config(
        self, own_base: Path, channels: int, message: str, hint: str
    ) -> None:
        for path in own_base.glob("*/*.safetensors"):
            path.unlink()
        path = own_base / "unet" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": channels}))
        with pytest.raises(CnctlError, match=message) as caught:
            load_base(own_base)
        assert hint in caught.value.hint

    def test_a_transformers_folder_is_named_for_what_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"_class_name": "SanaTransformer2DModel"}')
        with pytest.raises(CnctlError, match=r"is a base of Sana$"):
            load_base(tmp_path)

    def test_the_same(self) -> None:
        check_same_shape({**SD15, "conditioning_channels": 1}, SD15)

    def test_another(self) -> None:
        message = r"^this ControlNet was made for SD 2\.x; the base is SD 1\.x$"
        with pytest.raises(CnctlError, match=message) as caught:
            check_same_shape(SD21, SD15)
        assert caught.value.hint == "choose a base of SD 2.x, or a ControlNet for SD 1.x"

    def test_no_network_at_all(self) -> None:
        with pytest.raises(CnctlError, match="no 'cross_attention_dim'"):
            shape_of({"block_out_channels": [1]})
