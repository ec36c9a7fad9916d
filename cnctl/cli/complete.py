"""What shells complete: names of conditions, weights, bases, schedulers and settings.

Nothing here imports torch, or a plugin.
"""

from __future__ import annotations

from collections.abc import Iterable


def complete_condition(incomplete: str) -> list[str]:
    """Returns the conditions' names, also after a comma; reads metadata only."""
    from cnctl.registry import condition_names

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in _beginning(condition_names(), last)]


def complete_control(incomplete: str) -> list[str]:
    from cnctl.commands.shared.known_controls import published_names

    return _beginning(published_names(), incomplete)


def complete_base(incomplete: str) -> list[str]:
    return _beginning(_bases(), incomplete)


def complete_model(incomplete: str) -> list[str]:
    """Returns what `cnctl models pull` takes: bases, ControlNets, conditions, blip and clip."""
    from cnctl.commands.shared.known_controls import published_names
    from cnctl.hints.hub_models import HUB_MODELS
    from cnctl.registry import condition_names

    names = (*_bases(), *HUB_MODELS, *condition_names(), *published_names())
    return _beginning(names, incomplete)


def complete_scheduler(incomplete: str) -> list[str]:
    from cnctl.sampling.samplers import SCHEDULERS

    return _beginning(SCHEDULERS, incomplete)


def complete_sweep(incomplete: str) -> list[str]:
    """Returns the settings that can be swept, with their "="; after it, the values of a choice."""
    from cnctl.settings import GenerateSettings
    from cnctl.settings.declaration import declarations

    settings = declarations(GenerateSettings)
    name, equals, values = incomplete.partition("=")
    if not equals:
        return _beginning((f"{each}=" for each in settings), incomplete)
    before, comma, last = values.rpartition(",")
    choices = settings[name].choices if name in settings else ()
    return [f"{name}={before}{comma}{choice}" for choice in _beginning(choices, last)]


def _bases() -> tuple[str, ...]:
    from cnctl.models.published import BASES
    from cnctl.weights import EMBEDDED_BASES

    return (*EMBEDDED_BASES, *BASES)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
