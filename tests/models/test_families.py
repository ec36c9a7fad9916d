"""Families of bases by shape, from configs alone."""

from pathlib import Path

import pytest

from cnctl.errors import CnctlError
from cnctl.models.base import load_base, read_family
from cnctl.models.families import Family, check_same_family, family_of

SD15 = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768}
SD21 = {**SD15, "cross_attention_dim": 1024}
SDXL = {"block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048}


class TestFamily:
    @pytest.mark.parametrize(
        ("config", "name"), [(SD15, "SD 1.x"), (SD21, "SD 2.x"), (SDXL, "SDXL")]
    )
    def test_by_shape(self, config: dict, name: str) -> None:
        assert family_of(config).name == name

    def test_of_the_embedded_base(self) -> None:
        assert read_family("tiny").name == "tiny"
        assert load_base("tiny").family == read_family("tiny")

    def test_of_something_else(self, random_base: Path) -> None:
        family = read_family(random_base)
        assert family == Family("", 32, (16, 32, 32, 32), 2, 4)
        assert family.name == "U-Net 16-32-32-32 with text width 32"

    def test_no_weights_are_read(self, own_base: Path) -> None:
        for path in own_base.glob("*/*.safetensors"):
            path.unlink()
        assert read_family(own_base).text_width == 32

    def test_the_same(self) -> None:
        check_same_family({**SD15, "conditioning_channels": 1}, SD15)

    def test_another(self) -> None:
        message = r"^this ControlNet was made for SD 2\.x; the base is SD 1\.x$"
        with pytest.raises(CnctlError, match=message) as caught:
            check_same_family(SD21, SD15)
        assert caught.value.hint == "choose a base of SD 2.x, or a ControlNet for SD 1.x"

    def test_no_network_at_all(self) -> None:
        with pytest.raises(CnctlError, match="no 'cross_attention_dim'"):
            family_of({"block_out_channels": [1]})
