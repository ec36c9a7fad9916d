"""What a run would do, reported without doing any of it."""

from pathlib import Path

import numpy as np
import pytest

from cnctl.commands.annotate.dry_run import plan_annotation
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.run import annotate
from cnctl.errors import CnctlError
from cnctl.images import read_hint, write_image


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNCTL_DETECTORS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    Path("photos").mkdir()
    for name in ("a", "b"):
        write_image(Path("photos", f"{name}.png"), np.full((48, 64, 3), 99, np.uint8))
    return Path("photos")


def test_the_plan_is_what_the_run_does(photos: Path) -> None:
    request = AnnotateRequest(conditions="canny", inputs=[photos], resolution=32, out="hints")
    plan = plan_annotation(request)
    assert not Path("hints").exists()
    assert plan.sizes == {"40 x 32": 2}
    assert "outputs     hints/a-canny.png and 1 more" in plan.lines()
    made = annotate(request)
    assert plan.outputs == [hint.path for hint in made.hints]
    assert read_hint("hints/a-canny.png", channels=3).shape == (32, 40, 3)
    assert "outputs     hints/a-canny.png and 1 more; 2 there already" in (
        plan_annotation(request).lines()
    )


def test_weights_that_are_missing_and_images_that_cannot_be_read_are_named(photos: Path) -> None:
    Path("photos/c.png").write_bytes(b"")
    plan = plan_annotation(AnnotateRequest(conditions=["canny", "hed"], inputs=[photos]))
    (weights,) = plan.as_dict()["weights"]
    assert weights.startswith("ControlNetHED.pth of lllyasviel/Annotators")
    assert weights.endswith("missing; cnctl models pull hed")
    assert [failure.image for failure in plan.failed] == [Path("photos/c.png")]
    with pytest.raises(CnctlError, match="empty"):
        plan_annotation(AnnotateRequest(conditions="canny", inputs=["photos/c.png"]))
