"""CLIP score, FID and KID through torchmetrics, an extra: `pip install 'cnctl[metrics]'`."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, AutoProcessor

from cnctl.errors import CnctlError, MissingError, shown
from cnctl.hints.files import find_file, safe_file
from cnctl.hints.hub_models import CLIP
from cnctl.plugin import WeightFile

METRICS = ("clip", "fid", "kid")
INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
"""The network that FID is defined by."""
BATCH = 16
KID_SUBSET = 1000
"""Pictures of a subset at most, as usual; a smaller set takes all that it has."""

Pictures = Iterable[np.ndarray]
"""RGB uint8 (H, W, 3), of any sizes."""
Embed = Callable[[Tensor], Tensor]
"""Pictures uint8 (B, 3, H, W) to features (B, D)."""
ClipScore = Callable[[np.ndarray, str], float]
"""(picture, prompt) -> 100 times the cosine of their embeddings."""


def check_metrics(names: Sequence[str]) -> None:
    """CnctlError for a name that is unknown, MissingError where torchmetrics is not installed."""
    for name in names:
        if name not in METRICS:
            raise CnctlError(f"no metric {name!r}", hint=f"--metrics takes {', '.join(METRICS)}")
    for package in ("torchmetrics", "torch_fidelity") if names else ():
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingError(
                f"--metrics {','.join(names)} needs {package.replace('_', '-')}",
                hint="pip install 'cnctl[metrics]'",
            ) from error


def open_clip(source: str | None, *, device: torch.device) -> ClipScore:
    """CLIP of transformers, from a folder or a cached hub id; None for OpenAI's ViT-L/14."""
    from torchmetrics.multimodal import CLIPScore

    file = WeightFile(repo=source) if source else CLIP
    path = Path(file.repo)
    found = path if path.is_dir() else find_file(file)
    if found is None:
        name = "clip" if file is CLIP else file.repo
        raise MissingError(
            f"no CLIP {file.repo!r}: neither a folder nor in the hub cache",
            hint=f"fetch it: cnctl models pull {name}",
        )
    metric = CLIPScore(lambda: _load_clip(safe_file(found))).to(device)

    @torch.inference_mode()
    def score(picture: np.ndarray, prompt: str) -> float:
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).to(device)
        return float(metric(pixels, prompt))

    return score


def open_inception(*, device: torch.device) -> Embed:
    """FID's Inception network, from torch's own cache; its pickle is read without running it."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_URL.rpartition("/")[2]
    if not path.is_file():
        raise MissingError(
            "FID and KID need the Inception network, which is not installed",
            hint=f"fetch it: curl -L --create-dirs -o {path} {INCEPTION_URL}",
        )
    # torch-fidelity unpickles whatever file it is given, so it is given one of ours.
    buffer = io.BytesIO()
    torch.save(load_file(safe_file(path)), buffer)
    buffer.seek(0)
    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], buffer).to(device)
    return torch.inference_mode()(lambda pictures: network(pictures.to(device)).cpu())


def embed(pictures: Pictures, network: Embed) -> Tensor:
    """Features (N, D) of pictures, which may differ in size."""
    features = []
    for picture in pictures:
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
        features.append(network(pixels[None]))
    return torch.cat(features)


def frechet_distance(real: Tensor, made: Tensor) -> float:
    """FID of features (N, D) and (M, D)."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    return float(_compared(FrechetInceptionDistance(_Given(real.shape[1])), real, made))


def kernel_distance(real: Tensor, made: Tensor) -> tuple[float, float]:
    """KID of features (N, D) and (M, D): mean and standard deviation over subsets."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(KID_SUBSET, len(real), len(made))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)
        warnings.simplefilter("ignore")  # that it keeps all features
        metric = KernelInceptionDistance(_Given(real.shape[1]), subset_size=size)
        mean, deviation = _compared(metric, real, made)
    return float(mean), float(deviation)


class _Features(nn.Module):
    """CLIP as torchmetrics expects it: it does not know that transformers 5 wraps features."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return self.model.get_image_features(pixels).pooler_output

    def get_text_features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.model.get_text_features(tokens, mask).pooler_output


class _Given(nn.Module):
    """Stands for a network whose features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def _compared(metric: Any, real: Tensor, made: Tensor) -> Any:
    metric.update(real, real=True)
    metric.update(made, real=False)
    return metric.compute()


def _load_clip(folder: Path) -> tuple[Any, Any]:
    transformers.utils.logging.disable_progress_bar()
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CnctlError(
            f"{shown(folder)} is not a CLIP of transformers: {reason}",
            hint=f"give a model such as {CLIP.repo}",
        ) from error
    if not hasattr(model, "get_text_features"):
        raise CnctlError(f"{shown(folder)} is not a CLIP", hint=f"give a model such as {CLIP.repo}")
    return _Features(model.eval()), processor
