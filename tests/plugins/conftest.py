"""Detectors run for real: true architectures, seeded random weights, the files' true names."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from cnctl.hints.run import load_detections
from cnctl.plugin import Condition

NETWORK_SEED = 0


@pytest.fixture(scope="session", autouse=True)
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that CNCTL_DETECTORS names; converted copies go to a cache of this session."""
    folder = tmp_path_factory.mktemp("detectors")
    names = ("CNCTL_DETECTORS", "XDG_CACHE_HOME")
    before = {name: os.environ.get(name) for name in names}
    os.environ["CNCTL_DETECTORS"] = str(folder)
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield folder
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(scope="session")
def save_network(detectors: Path) -> Callable[..., torch.nn.Module]:
    """Build a network and save its weights as a file: save(build, "x.pth", rename) -> network.

    wrapper: the key under which the file holds them.
    Batch norms get statistics of their own, so that a confused order of tensors would show.
    """

    def save(
        build: Callable[[], torch.nn.Module],
        filename: str,
        rename: Callable[[str], str] = lambda name: name,
        wrapper: str = "",
    ) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(NETWORK_SEED)
            network = build().eval()
            for name, tensor in network.state_dict().items():
                if name.endswith("running_mean"):
                    tensor.uniform_(-0.1, 0.1)
                if name.endswith("running_var"):
                    tensor.uniform_(0.1, 0.5)
        tensors = {rename(name): tensor for name, tensor in network.state_dict().items()}
        torch.save({wrapper: tensors} if wrapper else tensors, detectors / filename)
        return network.requires_grad_(False)

    return save


@pytest.fixture
def photo() -> np.ndarray:
    """RGB uint8 (64, 64, 3): gradients, a box, a disc, a little noise."""
    y, x = np.mgrid[:64, :64]
    scene = np.stack([4 * y, 4 * x, np.full((64, 64), 96)], axis=2)
    scene[8:32, 8:32] = (230, 40, 30)
    scene[(y - 42) ** 2 + (x - 42) ** 2 < 15**2] = (30, 60, 220)
    noise = np.random.default_rng(0).integers(-8, 9, scene.shape)
    return np.clip(scene + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def same_in_batches(photo: np.ndarray) -> Callable[..., None]:
    """Check that three pictures give the same hints together as one by one.

    But for the last bit of the network's arithmetic, which may turn a rounded value by one.
    """

    def check(condition: Condition, side: int = 64, **options: Any) -> None:
        detect = load_detections(condition)
        assert detect.takes_many
        turned = [photo, photo[::-1], np.roll(photo, 20, axis=1)]
        pictures = [np.ascontiguousarray(picture[:40, :side]) for picture in turned]
        for together, picture in zip(detect.batch(pictures, **options), pictures, strict=True):
            alone = detect(picture, **options)
            assert alone is not None
            assert together is not None
            off = np.abs(together.hint.astype(int) - alone.hint.astype(int))
            assert np.mean(off > 1) < 0.001

    return check


@pytest.fixture(scope="session")
def folders() -> ModuleType:
    """Functions that save small transformers models; see transformers_folders.py."""
    path = Path(__file__).with_name("transformers_folders.py")
    spec = importlib.util.spec_from_file_location("transformers_folders", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
