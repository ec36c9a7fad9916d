"""What the start of the hint encoder does: Gaussian weights beside PyTorch's own.

    python tests/benchmarks/hint_start.py [--steps 200]

First the contrast (standard deviation over places) of a photograph's Canny edges on their way
through the hint encoder at Stable Diffusion's size. Then `cnctl train` from both starts, the same
but for that, with control's fidelity on held-out scenes.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor
from torch.nn import functional as F

from cnctl.commands.train.events import Event, Previewed
from cnctl.commands.train.request import TrainRequest
from cnctl.commands.train.run import train
from cnctl.models.unet.controlnet import HINT_STARTS, RELEASED_WIDTHS, start_gaussian

CAT = Path(__file__).parents[2] / "examples" / "images" / "cat.jpg"


def edges() -> Tensor:
    """Canny edges (1, 3, 512, 512) in [0, 1]."""
    image = cv2.resize(cv2.imread(str(CAT)), (512, 512))
    hint = torch.from_numpy(cv2.Canny(image, 100, 200)).float() / 255
    return hint.expand(1, 3, -1, -1)


@torch.no_grad()
def contrasts(start: str) -> list[float]:
    """Contrast of the hint, then after each layer up to the zero convolution."""
    torch.manual_seed(0)
    encoder = ControlNetConditioningEmbedding(320, 3, RELEASED_WIDTHS)
    if start == "gaussian":
        start_gaussian(encoder)
    features = edges()
    found = [features]
    for layer in (encoder.conv_in, *encoder.blocks):
        features = F.silu(layer(features))
        found.append(features)
    return [float(f.std((0, 2, 3)).mean()) for f in found]


def fidelities(start: str, *, steps: int) -> list[float]:
    """Edge F1 every 50 steps of a run on the embedded base."""
    seen: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, Previewed) and event.fidelity is not None:
            seen.append(event.fidelity)

    settings = {"steps": steps, "preview_every": 50, "hint_start": start}
    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(condition="canny", data="scenes:4000", settings=settings)
        train(request, Path(folder), on_event=listen)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="of each run; 0 for none")
    arguments = parser.parse_args()
    print("contrast, layer by layer")
    for start in HINT_STARTS:
        print(f"{start:>10}", *(f"{value:8.5f}" for value in contrasts(start)))
    if arguments.steps:
        print("edge F1 at steps", *range(0, arguments.steps + 1, 50))
        for start in HINT_STARTS:
            scores = np.round(fidelities(start, steps=arguments.steps), 3)
            print(f"{start:>10}", *scores, flush=True)


if __name__ == "__main__":
    main()
