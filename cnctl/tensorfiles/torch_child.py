"""A program of its own, run by `sandbox.py`: torch file in, safetensors file out, within limits.

Torch takes seconds to import, so the program stays and answers one request per line. Each file is
read in a fork, which limits itself before it touches the file and ends with it; the program itself
opens no file. Where a fork of torch is not safe (macOS) or unknown (Windows), it reads one file and
ends. It imports nothing of cnctl and gets no environment of the user's.

A request is a line of JSON (see `sandbox.extract_tensors`); so is the answer: the code that the
reader ended with, negative for a signal, and why.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

MAX_WORDS = 4096
"""Bytes kept of what a reader says; a hostile one might talk without end."""


def main() -> None:
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        raise SystemExit("torch 2.10 or newer is needed to read such files; upgrade torch")
    for line in sys.stdin:
        if sys.platform != "linux":
            _read(json.loads(line))
            return
        code, why = _in_fork(json.loads(line))
        print(json.dumps({"code": code, "why": why}), flush=True)


def _in_fork(request: dict[str, Any]) -> tuple[int, str]:
    heard, said = os.pipe()
    child = os.fork()
    if not child:
        _be_the_reader(request, said)
    os.close(said)
    with open(heard, "rb") as pipe:
        why = pipe.read(MAX_WORDS)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), why.decode(errors="replace")


def _be_the_reader(request: dict[str, Any], said: int) -> None:
    """Read the file with nothing open but a place to say why it failed, and end."""
    code = 1
    try:
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.close(0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        _read(request)
        code = 0
    except BaseException as error:
        os.write(2, _in_one_line(error).encode())
    finally:
        os._exit(code)


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, SystemExit) else f"{type(error).__name__}: {text}"


def _read(request: dict[str, Any]) -> None:
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
    if sys.platform == "linux":  # macOS takes no limit of memory
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
        raise SystemExit(_in_one_line(error)) from None
