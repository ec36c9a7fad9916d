"""Every command in the pages on conversion, run in the page's order.

The files that the pages speak of are made at small width, which is made to stand for SD 1.x here.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from cnctl.cli import app
from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.models.save import save_network
from cnctl.models.unet import known
from cnctl.models.unet.checkpoint.architecture import read_encoder
from cnctl.models.unet.checkpoint.keymap import decoder_names, pairs
from cnctl.models.unet.checkpoint.source import read_description
from cnctl.models.unet.known import KnownFamily

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("convert*.md"))
UNET = "model.diffusion_model."


@pytest.fixture
def small_is_sd15(monkeypatch) -> None:
    """Let the width of the random base be that of a family whose heads are known."""
    small = KnownFamily(
        name="SD 1.x", widths=(16, 32, 32, 32), layers=1, text_width=32, heads=2, groups=8
    )
    monkeypatch.setattr(known, "KNOWN", (small,))


def original_unet(folder: Path) -> dict[str, torch.Tensor]:
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    encoder = read_encoder({name: tuple(tensor.shape) for name, tensor in unet.items()})
    names = [(pair.diffusers, pair.original) for pair in pairs(encoder)]
    names += decoder_names(encoder)
    return {UNET + original: unet[ours] for ours, original in names}


@pytest.fixture(scope="module")
def shelf(random_base, random_controlnet, tmp_path_factory) -> Path:
    """The files under the pages' names."""
    folder = tmp_path_factory.mktemp("shelf")
    shutil.copytree(random_base, folder / "sd15")
    save_network(
        random_controlnet, folder / "runs/canny/controlnet", description={"condition": "canny"}
    )
    random_controlnet.save_pretrained(folder / "sd15-canny")
    standalone = folder / "control_v11p_sd15_canny.safetensors"
    convert(ConvertRequest(sources=folder / "sd15-canny", target=standalone))
    control, unet = load_file(standalone), original_unet(random_base)
    torch.save(control, folder / "control_v11p_sd15_canny.pth")
    tuned = {name: tensor + 0.01 for name, tensor in unet.items()}
    save_file(tuned, folder / "dreamshaper.safetensors")
    moved = {n: t + 0.01 if n.startswith(f"{UNET}output_blocks") else t for n, t in unet.items()}
    schedule = {"betas": torch.zeros(9)}
    torch.save(control | moved | schedule, folder / "control_sd15_canny.pth")
    trained = {"state_dict": control | unet | schedule, "epoch": 3, "optimizer_states": [{}]}
    for name in ("last.ckpt", "epoch=3-step=1000.ckpt"):
        torch.save(trained, folder / name)
    difference = {
        name: tensor - unet.get(UNET + name.removeprefix("control_model."), 0)
        for name, tensor in control.items()
    }
    save_file(
        difference | {"difference": torch.tensor(1.0)},
        folder / "diff_control_sd15_canny.safetensors",
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("small_is_sd15")
def test_every_command_of_the_page_runs(page, shelf, tmp_path, monkeypatch) -> None:
    shutil.copytree(shelf, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\$ cnctl (.*)$", text.replace("\\\n", ""), re.MULTILINE)
    assert lines
    for line in lines:
        result = CliRunner().invoke(app, shlex.split(line))
        assert result.exit_code == 0, f"{line}: {result.exception!r}"
        assert result.stdout


@pytest.mark.usefixtures("small_is_sd15")
def test_what_the_pages_promise(shelf, tmp_path, monkeypatch) -> None:
    """There and back, the pair of a full checkpoint, and the difference with another base."""
    monkeypatch.chdir(shelf)
    there = convert(
        ConvertRequest(sources="sd15-canny", target=tmp_path / "there.safetensors")
    ).path
    back = convert(ConvertRequest(sources=there, target=tmp_path / "back")).path
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (back / name).read_bytes() == (shelf / "sd15-canny" / name).read_bytes()
    pair = convert(
        ConvertRequest(sources="control_sd15_canny.pth", target=tmp_path / "pair", base="sd15")
    ).path
    assert (pair / "base_delta.safetensors").is_file()
    assert read_description(pair)["condition"] == "canny"
    moved = convert(
        ConvertRequest(
            sources="control_v11p_sd15_canny.safetensors",
            target=tmp_path / "moved.safetensors",
            from_base="sd15",
            to_base="dreamshaper.safetensors",
        )
    ).path
    completed = convert(
        ConvertRequest(
            sources="diff_control_sd15_canny.safetensors",
            target=tmp_path / "completed.safetensors",
            base="dreamshaper.safetensors",
        )
    ).path
    one, other = load_file(moved), load_file(completed)
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
