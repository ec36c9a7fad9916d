import pytest

from cnctl.errors import CnctlError
from cnctl.hints.ready import draw_hint, read_ready
from cnctl.plugin import Condition


def test_data_that_cannot_be_drawn_are_laid_to_the_file(tmp_path):
    condition = Condition(
        name="drawn", summary="", load_detector=len, draw=lambda data: data["points"]
    )
    with pytest.raises(CnctlError, match="could not draw these data: KeyError") as caught:
        draw_hint(condition, {})
    assert caught.value.hint.startswith("check the file")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(CnctlError, match=r"deep\.json cannot be read as JSON"):
        read_ready(condition, tmp_path / "deep.json")
