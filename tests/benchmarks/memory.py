"""Peak memory of one image with and without --low-memory, as one JSON document.

    python tests/benchmarks/memory.py [--side 640] [--steps 1]

Each run is a separate process, whose peak the kernel reports. The base has Stable Diffusion
1.5's true text encoder and autoencoder and a U-Net and ControlNet of an eighth of its width, with
random weights, in float32 on the CPU: what --low-memory saves there, it saves there at full width.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTHS = (40, 80, 160, 160)


def build(folder: Path) -> None:
    """Write the base with its ControlNet for canny."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[])
    tokenizer.model_max_length = 77
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )
    unet = UNet2DConditionModel(
        block_out_channels=WIDTHS, cross_attention_dim=768, norm_num_groups=8, sample_size=64
    )
    parts = {"tokenizer": tokenizer, "text_encoder": CLIPTextModel(text), "vae": vae, "unet": unet}
    parts["scheduler"] = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    ControlNetModel.from_unet(unet).save_pretrained(folder / "controls/canny")
    index = {name: [_library(part), type(part).__name__] for name, part in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index))


def _library(part: object) -> str:
    return type(part).__module__.partition(".")[0]


def generate(base: Path, out: Path, *, side: int, steps: int, low: bool) -> dict[str, float]:
    """One image in this process; its peak in MB and its seconds."""
    from cnctl.commands.generate.request import ControlSpec, GenerateRequest
    from cnctl.commands.generate.run import generate

    request = GenerateRequest(
        [ControlSpec(condition="canny", source=base / "hint.png")],
        prompt="a",
        ready_hint=True,
        base=str(base),
        size=(side, side),
        settings={"steps": steps},
        out=out,
        low_memory=low,
    )
    began = time.monotonic()
    next(generate(request))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mb": round(peak), "seconds": round(time.monotonic() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=640, help="of the image, in pixels")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--in", dest="base", type=Path, help="internal: run once, in this base")
    parser.add_argument("--low", action="store_true", help="internal")
    given = parser.parse_args()
    if given.base:
        out = given.base / f"{'low' if given.low else 'usual'}.png"
        size = {"side": given.side, "steps": given.steps}
        print(json.dumps(generate(given.base, out, **size, low=given.low)))
        return
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        torch.manual_seed(0)
        build(base)
        rng = np.random.default_rng(0)
        edges = np.where(rng.random((64, 64)) > 0.9, 255, 0).astype(np.uint8)
        Image.fromarray(edges).save(base / "hint.png")
        words = [sys.executable, __file__, "--side", str(given.side), "--steps", str(given.steps)]
        runs = {}
        for run, more in {"usual": [], "low": ["--low"]}.items():
            command = [*words, "--in", name, *more]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs[run] = json.loads(done.stdout)
        images = [np.asarray(Image.open(base / f"{run}.png"), float) for run in runs]
        difference = np.abs(images[0] - images[1])
        levels = {"mean": round(difference.mean(), 2), "most": round(difference.max())}
        print(json.dumps({**runs, "difference_in_levels": levels}, indent=2))


if __name__ == "__main__":
    main()
