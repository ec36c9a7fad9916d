"""`cnctl doctor`: is this machine ready, and what to do if it is not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path

from cnctl.registry import list_conditions

WANTED_DISK = 10e9
"""Bytes: a Stable Diffusion 1.5 base and a few ControlNets in half precision."""


@dataclass(frozen=True)
class Check:
    """One row: status is "ok", "warn" or "fail"; fix says what to do unless all is well."""

    name: str
    status: str
    text: str
    fix: str = ""


def doctor() -> list[Check]:
    """Run every check; none raises, each failure is a row."""
    checks = (
        _python,
        _torch_pair,
        _device,
        _imports,
        _opencv,
        _conditions,
        _embedded_bases,
        _cache,
    )
    return [check for make in checks for check in _guarded(make)]


def _guarded(make: Callable[[], Iterator[Check]]) -> list[Check]:
    name = make.__name__.strip("_")
    try:
        return list(make())
    except PermissionError as error:
        return [
            Check(name, "fail", f"{error.filename}: permission denied", "let this user read it")
        ]
    except Exception as error:  # a broken installation raises anything
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return [Check(name, "fail", text, "reinstall: pip install --force-reinstall cnctl")]


def _python() -> Iterator[Check]:
    yield Check("python", "ok", sys.version.split()[0])
    yield Check("cnctl", "ok", version("cnctl"))


def _torch_pair() -> Iterator[Check]:
    """PEP 440 lets pip pair a CPU torch with a CUDA torchvision; only a real call finds out."""
    import torch

    text = f"torch {torch.__version__}, torchvision {version('torchvision')}"
    fix = "pip install --force-reinstall torch torchvision, both in one command from one index"
    try:
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        torchvision.ops.nms(boxes, torch.ones(1), 0.5)
    except Exception as error:
        yield Check("torch", "fail", f"{text}: {' '.join(str(error).split())}", fix)
    else:
        yield Check("torch", "ok", text)


def _device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / 2**30
            yield Check("device", "ok", f"{torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Check("device", "ok", "Apple GPU (mps)")
    else:
        text = f"CPU only, {os.cpu_count()} cores: quick for tiny, slow for Stable Diffusion"
        yield Check("device", "warn", text, "a CUDA GPU with 6 GB or more")


def _imports() -> Iterator[Check]:
    import diffusers
    from transformers import CLIPTextModel

    names = ("diffusers", "transformers", "accelerate", "peft", "controlnet-aux")
    assert diffusers.StableDiffusionControlNetPipeline
    assert CLIPTextModel
    yield Check("libraries", "ok", ", ".join(f"{name} {version(name)}" for name in names))


def _opencv() -> Iterator[Check]:
    """Two distributions own the one cv2 folder; at different versions their files mix."""
    import cv2

    names = ("opencv-python", "opencv-python-headless")
    found = {d.name.lower(): d.version for d in distributions() if d.name.lower() in names}
    text = ", ".join(f"{name} {number}" for name, number in sorted(found.items()))
    if len(set(found.values())) > 1:
        fix = f"pip install --force-reinstall opencv-python-headless=={cv2.__version__}"
        yield Check("opencv", "warn", f"mixed versions: {text}", fix)
    else:
        yield Check("opencv", "ok", f"cv2 {cv2.__version__} ({text})")


def _conditions() -> Iterator[Check]:
    entries = list_conditions()
    broken = [entry for entry in entries if entry.problem]
    yield Check("conditions", "ok", f"{len(entries) - len(broken)} found")
    for entry in broken:
        yield Check("conditions", "warn", f"{entry.name}: {entry.problem}", "fix or uninstall it")


def _embedded_bases() -> Iterator[Check]:
    from cnctl.models.families import read_family
    from cnctl.models.locate import locate_base
    from cnctl.weights import EMBEDDED_BASES

    for name in EMBEDDED_BASES:
        path = locate_base(name).path
        yield Check(name, "ok", f"embedded base, {read_family(name).name}: {path}")


def _cache() -> Iterator[Check]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    status = "ok" if free > WANTED_DISK else "warn"
    fix = "" if status == "ok" else "set HF_HOME to a larger disk"
    yield Check("cache", status, f"{folder}, {free / 1e9:.0f} GB free", fix)
    if not os.access(existing, os.W_OK):
        yield Check("cache", "warn", f"{existing} is not writable", "set HF_HOME")
