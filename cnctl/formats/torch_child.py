"""A program of its own, run by `sandbox.py`: torch file in, safetensors file out, within limits.

It reads with `weights_only=True` what `torchfile.py` has already found to be tensors alone. It
imports nothing of cnctl and gets no environment of the user's.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    request = json.load(sys.stdin)
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        raise SystemExit("torch 2.10 or newer is needed to read such files; upgrade torch")
    _limit(request["bytes"], request["seconds"])
    how = {name: request[name] for name in ("mapped", "inert", "wrappers")}
    tensors = _load(request["source"], **how)
    chosen = {name: _tensor(name, tensors) for name in request["names"]}

    from safetensors.torch import save_file

    save_file(chosen, request["target"])


def _limit(extra_bytes: int, seconds: int) -> None:
    """Cap memory and CPU time of this process; beyond them it fails or is killed."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the wall clock of the parent remains
        return
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + extra_bytes, used + extra_bytes))
    spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, spent + seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Inert:
    """Stands for a class of Lightning or numpy: takes anything, does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def _dictionary(*arguments: Any) -> dict[Any, Any]:
    return {}


def _load(source: str, *, mapped: bool, inert: list[str], wrappers: list[str]) -> dict[str, Any]:
    import torch

    stand_ins: list[Any] = [(Inert, name) for name in inert]
    stand_ins.append((_dictionary, "collections.defaultdict"))
    with torch.serialization.safe_globals(stand_ins):
        value = torch.load(source, weights_only=True, map_location="cpu", mmap=mapped)
    wrapped = [value[key] for key in wrappers if isinstance(value.get(key), dict)]
    return wrapped[0] if wrapped else value


def _tensor(name: str, tensors: dict[str, Any]) -> Any:
    import torch

    tensor = tensors[name]
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
        raise SystemExit(f"{name} is no plain tensor")
    tensor = tensor.detach()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor.contiguous() if whole and tensor.is_contiguous() else tensor.clone().contiguous()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
