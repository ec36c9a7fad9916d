"""Training on shards that a web server has."""

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnctl.commands.train.run import TrainRequest, check_data, plan_training, train
from cnctl.errors import CnctlError
from cnctl.images import write_hint, write_image

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*fork:DeprecationWarning"  # the server's thread, and fsspec's
)

SECRET = re.compile(rb"us3r|tok3n|s1gned")
SETTINGS = {
    "resolution": 32, "steps": 4, "batch_size": 2, "preview_every": 0, "held_out": 0,
    "checkpoint_every": 2, "learning_rate": 1e-3, "seed": 5,
}  # fmt: skip


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of three pairs, standing and lying."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for shard in range(2):
        with tarfile.open(tmp_path / f"data/{shard}.tar", "w") as archive:
            for number in range(3):
                size = (32, 64) if number else (64, 32)
                write_image(
                    tmp_path / "a.png", rng.integers(0, 256, (*size, 3), np.uint8), overwrite=True
                )
                hint = rng.integers(0, 256, (*size, 1), np.uint8)
                write_hint(tmp_path / "b.png", hint, overwrite=True)
                for kind, file in (("png", "a.png"), ("hint.png", "b.png")):
                    info = tarfile.TarInfo(f"{number}.{kind}")
                    data = (tmp_path / file).read_bytes()
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return tmp_path / "data"


@pytest.mark.slow
def test_a_streamed_run_is_the_local_one_and_keeps_no_credentials(
    random_base: Path, tmp_path: Path, shards: Path, serve: Any
) -> None:
    asked: dict[str, Any] = {"condition": "canny", "base": str(random_base)}
    local = TrainRequest(**asked, data=str(shards / "*.tar"), settings=SETTINGS)
    train(local, tmp_path / "local")
    out = tmp_path / "streamed"
    with serve(shards) as server:
        spec = f"{server.url}/{{0..1}}.tar?sig=".replace("://", "://us3r:tok3n@")
        begun = TrainRequest(**asked, data=f"{spec}s1gned", settings=SETTINGS | {"steps": 2})
        assert not SECRET.search(" ".join(plan_training(begun, out).lines()).encode())
        train(begun, out)
        with pytest.raises(CnctlError, match=r"credentials are not saved") as caught:
            train(TrainRequest(settings={"steps": 4}), out, resume=True)
        assert "--data" in caught.value.hint
        assert not SECRET.search(str(caught.value).encode())
        rest = TrainRequest(data=f"{spec}s1gned2", settings={"steps": 4, "workers": 2})
        train(rest, out, resume=True)
    weights = [next(run.glob("controlnet/*.safetensors")) for run in (tmp_path / "local", out)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    for path in (path for path in out.rglob("*") if path.is_file()):
        assert not SECRET.search(path.read_bytes()), path


@pytest.mark.slow
def test_a_shard_that_has_changed_is_another_data_set(
    random_base: Path, tmp_path: Path, shards: Path, serve: Any
) -> None:
    with serve(shards) as server:
        data = f"{server.url}/{{0,1}}.tar"
        settings = SETTINGS | {"steps": 1}
        asked: dict[str, Any] = {"condition": "canny", "data": data, "base": str(random_base)}
        train(TrainRequest(**asked, settings=settings), tmp_path / "run")
        (shards / "0.tar").write_bytes((shards / "0.tar").read_bytes())
        with pytest.raises(CnctlError, match=r"what .* holds differs"):
            train(TrainRequest(settings={"steps": 2}), tmp_path / "run", resume=True)


def test_buckets_and_parts_and_checks_of_streamed_shards(
    random_base: Path, tmp_path: Path, shards: Path, serve: Any
) -> None:
    with serve(shards) as server:
        data = f"{server.url}/*.tar"
        settings = SETTINGS | {"buckets": True, "sample": 5}
        asked: dict[str, Any] = {"condition": "canny", "data": data, "base": str(random_base)}
        plan = plan_training(TrainRequest(**asked, settings=settings), tmp_path / "run")
        assert plan.examples == sum(plan.sizes.values()) == 5
        assert len(plan.sizes) == 2
        report = check_data("canny", data, base=str(random_base), resolution=32)
        assert (report.examples, report.fatal) == (6, 0)
        assert report.sizes == {(64, 32): 2, (32, 64): 4}
