"""Detectors' networks, built from files that are safe to read, and nothing else happening.

controlnet_aux holds sound networks inside a package that imports all of itself, edits the
environment and replaces entries of timm's registry. Only the one module that defines a network is
imported here, under another name, so that none of this happens.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cnctl.plugin import CnctlError, MissingError

if TYPE_CHECKING:
    import numpy as np
    import torch

ALIAS = "_cnctl_controlnet_aux"


def import_network(module: str, name: str) -> Any:
    """A class or function of controlnet_aux, such as ("mlsd.models.mbv2_mlsd_large", ...)."""
    spec = find_spec("controlnet_aux")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError("controlnet_aux is not installed", hint="pip install controlnet-aux")
    folder = Path(spec.submodule_search_locations[0])
    package = ALIAS
    _add_bare_package(package, folder)
    for part in module.split(".")[:-1]:
        package, folder = f"{package}.{part}", folder / part
        _add_bare_package(package, folder)
    with quiet():
        return getattr(import_module(f"{ALIAS}.{module}"), name)


def load_network(
    build: Callable[[], torch.nn.Module],
    path: Path,
    *,
    device: str,
    rename: Callable[[str], str] = lambda name: name,
) -> torch.nn.Module:
    """The network with the weights of a safetensors file: float32, on the device, for inference.

    rename: a tensor's name in the file -> its name in the network. CnctlError where the file holds
    another network's weights.
    """
    import torch
    from safetensors.torch import load_file

    with quiet(), torch.device("meta"):  # nothing is drawn from the global random state
        network = build()
    tensors = {rename(name): tensor for name, tensor in load_file(path).items()}
    try:
        network.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise CnctlError(
            f"{path} does not hold the weights of {type(network).__name__}",
            hint="remove it and fetch it again",
        ) from error
    return network.float().to(device).eval().requires_grad_(False)


def load_transformer(kind: str, folder: Path, *, device: str) -> tuple[Any, Any]:
    """(image processor, model) of a transformers folder; `kind` names the model's class.

    CnctlError where the folder lacks weights that the model needs.
    """
    import transformers

    with quiet():
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    return processor, load_model(kind, folder, device=device)


def load_model(kind: str, folder: Path, *, device: str) -> Any:
    """The model of this class in a transformers folder: float32, on the device, for inference.

    CnctlError where the folder lacks weights that the model needs.
    """
    import torch
    import transformers

    with quiet(), torch.random.fork_rng(devices=[]):
        model, loaded = getattr(transformers, kind).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    if loaded["missing_keys"] or loaded["mismatched_keys"]:
        raise CnctlError(
            f"{folder} does not hold all weights of {kind}", hint="remove it and fetch it again"
        )
    return model.to(device).eval().requires_grad_(False)


def to_batch(images: np.ndarray, *, device: str, multiple: int = 1) -> torch.Tensor:
    """uint8 (N, H, W, C) -> float32 (N, C, H', W') in 0..255.

    H' and W' are the next multiples; edges are repeated below and to the right.
    """
    import torch

    height, width = images.shape[1:3]
    batch = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
    padding = (0, -width % multiple, 0, -height % multiple)
    return torch.nn.functional.pad(batch, padding, mode="replicate")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep a library's greetings and warnings to itself, and sys.argv from it."""
    arguments = sys.argv[:]
    sys.argv[:] = arguments[:1]
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings(), _no_progress_bars():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.argv[:] = arguments


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    if "transformers" not in sys.modules:
        yield
        return
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _add_bare_package(name: str, folder: Path) -> None:
    """A package of this name whose own __init__ is not run."""
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
