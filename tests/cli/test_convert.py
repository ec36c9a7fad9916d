"""`cnctl convert` and `cnctl info` as a shell sees them."""

import json
from pathlib import Path

import pytest
import torch


@pytest.fixture
def source(random_controlnet, tmp_path) -> Path:
    from cnctl.models.save import save_network

    save_network(random_controlnet, tmp_path / "source", description={"condition": "canny"})
    return Path("source")


@pytest.mark.slow
def test_prints_the_path_and_nothing_else(cnctl, source, tmp_path) -> None:
    run = cnctl("convert", source, "out.safetensors")
    assert (run.returncode, run.stdout, run.stderr) == (0, "out.safetensors\n", "")
    run = cnctl("convert", "out.safetensors", "back", "--verify", "--json")
    assert run.returncode == 0
    assert run.stderr == "largest difference of the residuals: 0\n"
    document = json.loads(run.stdout)
    assert document["path"] == "back"
    assert document["form"] == "diffusers"
    assert document["difference"] == 0
    weights = "diffusion_pytorch_model.safetensors"
    assert (tmp_path / "back" / weights).read_bytes() == (
        tmp_path / "source" / weights
    ).read_bytes()


@pytest.mark.slow
def test_says_what_it_left_out_on_stderr(cnctl, source, tmp_path, config_of_base) -> None:
    from safetensors.torch import load_file

    from cnctl.commands.convert.request import ConvertRequest
    from cnctl.commands.convert.run import convert

    convert(ConvertRequest(sources=tmp_path / source, target=tmp_path / "x.safetensors"))
    tensors = load_file(tmp_path / "x.safetensors")
    torch.save(tensors | {"betas": torch.zeros(3)}, tmp_path / "x.pth")
    run = cnctl("convert", "x.pth", "out", "--config", config_of_base)
    assert (run.returncode, run.stdout) == (0, "out\n")
    assert run.stderr == "left out buffers of the noise schedule (1 tensor)\n"


@pytest.fixture
def config_of_base(random_base) -> Path:
    return random_base / "unet" / "config.json"


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["nowhere", "out"], 4, "cnctl: nowhere does not exist; give a file"),
        (["source", "taken"], 6, "cnctl: taken exists; choose another name"),
        (["evil.ckpt", "out"], 2, "cnctl: evil.ckpt was refused: it asks for posix.system"),
        (["source"], 2, "cnctl: nothing to convert; give SRC and DST"),
    ],
    ids=range(4),
)
def test_errors_are_one_line(cnctl, source, tmp_path, arguments, code, line) -> None:
    import os

    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    (tmp_path / "taken" / "something").mkdir(parents=True)
    torch.save({"weight": Evil()}, tmp_path / "evil.ckpt")
    before = sorted(path.name for path in tmp_path.iterdir())
    run = cnctl("convert", *arguments)
    assert run.returncode == code
    assert run.stdout == ""
    assert run.stderr.startswith(line)
    assert run.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_info_of_weights(cnctl, source) -> None:
    run = cnctl("info", source)
    assert run.returncode == 0
    assert run.stderr == ""
    rows = dict(line.split(maxsplit=1) for line in run.stdout.splitlines())
    assert rows["form"] == "diffusers (safetensors)"
    assert rows["condition"] == "canny"
    assert rows["dtype"] == "float32"
    document = json.loads(cnctl("info", source, "--hash", "--json").stdout)
    assert len(document["sha256"]) == 64


def test_info_of_an_image(cnctl, photo, tmp_path) -> None:
    import numpy as np

    from cnctl.images import write_image

    image = np.zeros((8, 8, 3), np.uint8)
    write_image(
        tmp_path / "made.png", image, metadata={"cnctl": '{"seed": 3, "controls": [{"scale": 1}]}'}
    )
    lines = cnctl("info", "made.png").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["cnctl"],
        ["seed", "3"],
        ["controls"],
        ["scale", "1"],
    ]
    run = cnctl("info", photo)
    assert (run.returncode, run.stdout) == (0, "")
    assert run.stderr == "photo.png does not say how it was made\n"
