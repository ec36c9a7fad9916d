"""ControlNets from annotation to image: `annotate`, `train`, `generate`, `convert`, `evaluate`.

    from cnctl import ControlSpec, GenerateRequest, generate

Names are loaded when they are first used: `import cnctl` alone loads nothing heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnctl.errors import CnctlError as CnctlError
    from cnctl.jobs.annotate import annotate as annotate
    from cnctl.jobs.controls import ControlSpec as ControlSpec
    from cnctl.jobs.convert import convert as convert
    from cnctl.jobs.evaluate import EvaluateRequest as EvaluateRequest
    from cnctl.jobs.evaluate import evaluate as evaluate
    from cnctl.jobs.generate import generate as generate
    from cnctl.jobs.generate_setup import GenerateRequest as GenerateRequest
    from cnctl.jobs.train import train as train
    from cnctl.jobs.training_setup import TrainRequest as TrainRequest

    __version__: str

__all__ = [
    "CnctlError",
    "ControlSpec",
    "EvaluateRequest",
    "GenerateRequest",
    "TrainRequest",
    "annotate",
    "convert",
    "evaluate",
    "generate",
    "train",
]

_MODULES = {
    "CnctlError": "errors",
    "ControlSpec": "jobs.controls",
    "EvaluateRequest": "jobs.evaluate",
    "GenerateRequest": "jobs.generate_setup",
    "TrainRequest": "jobs.training_setup",
    "annotate": "jobs.annotate",
    "convert": "jobs.convert",
    "evaluate": "jobs.evaluate",
    "generate": "jobs.generate",
    "train": "jobs.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cnctl")
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"cnctl.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'cnctl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
