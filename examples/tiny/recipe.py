"""Train the weights of the embedded base: `python -m examples.tiny.recipe PART`.

One command per part, which starts from the committed weights unless `--fresh`. In order of use:
`scenes`, `autoencoder`, `latents`, `text`, `unet`, `reader`, `captioner`; and to look at the
result `sheet`. Everything is written under `--out`; copy it over `cnctl/tiny/weights` to ship it.
`transformer` makes another base, with `--out out/tiny-flow`, over the same latents and prompts.
The ControlNets are trained by `cnctl train`, as anyone's are: docs/tiny.md has the commands.
"""

import argparse
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnctl.tiny import WEIGHTS
from cnctl.tiny.pictures import to_tensor
from cnctl.tiny.reader import load_reader
from examples.tiny.base import (
    Base,
    fresh_unet,
    load_base,
    read_guidance_scale,
)
from examples.tiny.dataset import CHUNK, Pictures, encode_folder, render_chunk
from examples.tiny.flow import load_flow_base, make_flow_base, sample_flow
from examples.tiny.judge import class_and_colour, train_judge
from examples.tiny.latents import Latents
from examples.tiny.optim import fast_autocast
from examples.tiny.sample import SHEET_PROMPTS, sample, write_grid
from examples.tiny.train_autoencoder import train_autoencoder
from examples.tiny.train_captioner import train_captioner
from examples.tiny.train_reader import save_reader, train_reader
from examples.tiny.train_text import train_text
from examples.tiny.train_transformer import train_transformer
from examples.tiny.train_unet import quiet_start, train_unet


def main(arguments: list[str] | None = None) -> None:
    """Run one part of the recipe."""
    settings = parser().parse_args(arguments)
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.benchmark = True
    if settings.part != "transformer":
        prepare(settings.out, settings.start)
    COMMANDS[settings.part](settings)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(prog="python -m examples.tiny.recipe", description=__doc__)
    line.add_argument("part", choices=tuple(COMMANDS))
    line.add_argument("--minutes", type=float, default=10.0, help="wall time to train")
    line.add_argument("--out", type=Path, default=Path("out/tiny"), help="a diffusers folder")
    line.add_argument(
        "--from", dest="start", type=Path, default=WEIGHTS, help="weights to start from"
    )
    line.add_argument("--fresh", action="store_true", help="train the part from scratch")
    line.add_argument("--data", type=Path, default=Path("out/scenes"), help="rendered scenes")
    line.add_argument("--count", type=int, default=40000, help="how many scenes to render")
    line.add_argument("--batch-size", type=int, default=32, help="of the denoiser")
    line.add_argument("--rate", type=float, default=1.0, help="factor of the denoiser's rates")
    line.add_argument(
        "--grid-minutes", type=float, default=10.0, help="between copies of its weights and sheets"
    )
    line.add_argument("--seed", type=int, default=0)
    line.add_argument("--threads", type=int, default=1)
    line.add_argument("--workers", type=int, default=1, help="processes that render")
    line.add_argument("--device", default="cpu", help="of latents and unet, for example cuda")
    return line


def prepare(out: Path, start: Path) -> None:
    """Copy the weights to start from to `out`, so that it is always a whole base."""
    if not (out / "model_index.json").exists() and start.exists():
        shutil.copytree(start, out, dirs_exist_ok=True)


def scenes(settings: argparse.Namespace) -> None:
    """Render the training scenes that are missing."""
    starts = range(0, settings.count, CHUNK)
    with ProcessPoolExecutor(settings.workers) as pool:
        for path in pool.map(partial(render_chunk, settings.data), starts):
            print(path, flush=True)


def autoencoder(settings: argparse.Namespace) -> None:
    """Train the autoencoder."""
    start = None if settings.fresh else load_base(settings.out).vae
    pictures = Pictures(settings.data)
    train_autoencoder(pictures, minutes=settings.minutes, out=settings.out / "vae", start=start)


def latents(settings: argparse.Namespace) -> None:
    """Encode the rendered scenes; delete old latents first if the autoencoder changed."""
    base = load_base(settings.out).to(settings.device)

    def encode(pictures: NDArray[np.uint8]) -> Tensor:
        with fast_autocast(base.vae.device):
            return base.encode(to_tensor(pictures, base.vae.device)).float()

    for path in encode_folder(settings.data, encode):
        print(path, flush=True)


def text(settings: argparse.Namespace) -> None:
    """Train the text encoder, always from scratch: the U-Net has to be trained again after it."""
    train_text(minutes=settings.minutes, out=settings.out)


def unet(settings: argparse.Namespace) -> None:
    """Train the U-Net."""
    base = load_base(settings.out)
    if settings.fresh:
        torch.manual_seed(settings.seed)
        base = Base(
            base.vae, base.text_encoder, base.tokenizer, quiet_start(fresh_unet()), base.scheduler
        )
    base = base.to(settings.device)
    train_unet(
        base,
        Latents(settings.data, base),
        minutes=settings.minutes,
        out=settings.out / "unet",
        batch_size=settings.batch_size,
        rate=settings.rate,
        seed=settings.seed,
        grid_minutes=settings.grid_minutes,
    )


def transformer(settings: argparse.Namespace) -> None:
    """Train the transformer of `out`, a fresh one where none is there, and print its scores."""
    if settings.fresh or not (settings.out / "model_index.json").exists():
        shutil.rmtree(settings.out, ignore_errors=True)
        make_flow_base(settings.out, settings.start, seed=settings.seed)
    base = load_flow_base(settings.out).to(settings.device)
    train_transformer(
        base,
        Latents(settings.data, base),
        minutes=settings.minutes,
        out=settings.out / "transformer",
        batch_size=settings.batch_size,
        rate=settings.rate,
        seed=settings.seed,
        grid_minutes=settings.grid_minutes,
    )
    judge, judged = train_judge()
    guidance_scale = read_guidance_scale(settings.out)
    scores = class_and_colour(
        lambda prompts, seed: sample_flow(base, prompts, guidance_scale=guidance_scale, seed=seed),
        judge,
    )
    print(json.dumps({"judge": judged, "base": scores}))


def reader(settings: argparse.Namespace) -> None:
    """Train the network that reads a scene's maps."""
    start = None if settings.fresh else load_reader(settings.out / "reader")
    trained = train_reader(minutes=settings.minutes, start=start, seed=settings.seed)
    save_reader(trained, settings.out / "reader")


def captioner(settings: argparse.Namespace) -> None:
    """Train the captioner, always from scratch, and print how often it is right."""
    print(json.dumps(train_captioner(settings.out / "captioner"), indent=2))


def sheet(settings: argparse.Namespace) -> None:
    """Write sheet.png: the fixed prompts, four seeds each."""
    base, guidance_scale = load_base(settings.out), read_guidance_scale(settings.out)
    pictures = [
        picture
        for seed in range(4)
        for picture in sample(base, SHEET_PROMPTS, guidance_scale=guidance_scale, seed=seed)
    ]
    write_grid(str(settings.out / "sheet.png"), pictures, columns=len(SHEET_PROMPTS))


COMMANDS = {
    "scenes": scenes,
    "autoencoder": autoencoder,
    "latents": latents,
    "text": text,
    "unet": unet,
    "transformer": transformer,
    "reader": reader,
    "captioner": captioner,
    "sheet": sheet,
}


if __name__ == "__main__":
    main()
