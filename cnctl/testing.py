"""What plugins' tests use: load a condition's detector, test a condition against its contract."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnctl.commands.conditions.check import check_condition as check_condition
    from cnctl.hints.run import load_detector as load_detector

__all__ = ["check_condition", "load_detector"]

_MODULES = {"check_condition": "commands.conditions.check", "load_detector": "hints.run"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"cnctl.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'cnctl.testing' has no attribute {name!r}")
