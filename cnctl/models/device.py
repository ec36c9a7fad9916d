"""The device and the precision that a run computes in."""

from __future__ import annotations

import torch

from cnctl.errors import CnctlError, DeviceError, counted

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def pick_device(name: str | torch.device | None) -> torch.device:
    """The device of this name; for None the fastest there is: CUDA, then MPS, then the CPU."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else _mps_or_cpu()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CnctlError(f"unknown device {name!r}", hint="use cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        seen = counted(torch.cuda.device_count(), "CUDA device")
        raise DeviceError(
            f"there is no device {device}: torch sees {seen}",
            hint="use --device cpu, or install a torch built for your GPU",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("there is no device mps", hint="use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise CnctlError(f"unknown device {name!r}", hint="use cpu, cuda, cuda:1 or mps")
    return device


def pick_dtype(device: torch.device, name: str | torch.dtype | None) -> torch.dtype:
    """The precision of this name; for None bfloat16 (or float16) on CUDA, float32 elsewhere."""
    if isinstance(name, torch.dtype):
        return name
    if name is None:
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if name not in DTYPES:
        raise CnctlError(f"unknown dtype {name!r}", hint=f"use one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _mps_or_cpu() -> str:
    return "mps" if torch.backends.mps.is_available() else "cpu"


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was too small, of the device or of the host."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in str(error)  # what torch says on the CPU
