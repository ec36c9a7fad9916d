"""ControlNets from annotation to image: `annotate`, `train`, `generate`, `convert`, `evaluate`.

    from cnctl import ControlSpec, GenerateRequest, generate

Names are loaded when they are first used: `import cnctl` alone loads nothing heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnctl.commands.annotate.request import AnnotateRequest as AnnotateRequest
    from cnctl.commands.annotate.run import annotate as annotate
    from cnctl.commands.convert.init_from_base import init_from_base as init_from_base
    from cnctl.commands.convert.request import ConvertRequest as ConvertRequest
    from cnctl.commands.convert.request import InitRequest as InitRequest
    from cnctl.commands.convert.run import convert as convert
    from cnctl.commands.evaluate.request import EvaluateRequest as EvaluateRequest
    from cnctl.commands.evaluate.run import evaluate as evaluate
    from cnctl.commands.generate.job_stream import generate_jobs as generate_jobs
    from cnctl.commands.generate.request import ControlSpec as ControlSpec
    from cnctl.commands.generate.request import GenerateRequest as GenerateRequest
    from cnctl.commands.generate.run import generate as generate
    from cnctl.commands.train.request import TrainRequest as TrainRequest
    from cnctl.commands.train.run import train as train
    from cnctl.errors import CnctlError as CnctlError
    from cnctl.models.layouts import load_controlnet as load_controlnet
    from cnctl.models.layouts import read_description as read_description

    __version__: str

__all__ = [
    "AnnotateRequest",
    "CnctlError",
    "ControlSpec",
    "ConvertRequest",
    "EvaluateRequest",
    "GenerateRequest",
    "InitRequest",
    "TrainRequest",
    "annotate",
    "convert",
    "evaluate",
    "generate",
    "generate_jobs",
    "init_from_base",
    "load_controlnet",
    "read_description",
    "train",
]

_MODULES = {
    "AnnotateRequest": "commands.annotate.request",
    "CnctlError": "errors",
    "ConvertRequest": "commands.convert.request",
    "ControlSpec": "commands.generate.request",
    "EvaluateRequest": "commands.evaluate.request",
    "GenerateRequest": "commands.generate.request",
    "InitRequest": "commands.convert.request",
    "TrainRequest": "commands.train.request",
    "annotate": "commands.annotate.run",
    "convert": "commands.convert.run",
    "evaluate": "commands.evaluate.run",
    "generate": "commands.generate.run",
    "generate_jobs": "commands.generate.job_stream",
    "init_from_base": "commands.convert.init_from_base",
    "load_controlnet": "models.layouts",
    "read_description": "models.layouts",
    "train": "commands.train.run",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from cnctl.version import __version__

        return __version__
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"cnctl.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'cnctl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
