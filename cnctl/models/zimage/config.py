"""The config.json of a Z-Image ControlNet: what its shapes say, and what no shape says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.transformer.source import UndeterminedError
from cnctl.models.zimage.architecture import Architecture
from cnctl.models.zimage.shape import PATCH_SIZE

Config = dict[str, Any]

CLASS = "ZImageControlNetModel"
NO_REFINER, PLAIN, CONNECTED = "control_layers", None, "control_noise_refiner"
"""How hints are refined, as `add_control_noise_refiner` names it: by the layers themselves, by
layers like the base's, by layers that add to the base's."""
KNOWN_PLACES: Mapping[tuple[int, str | None], list[int]] = {
    (6, PLAIN): [0, 5, 10, 15, 20, 25],
    (15, NO_REFINER): list(range(0, 30, 2)),
    (15, CONNECTED): list(range(0, 30, 2)),
}
"""After which layers of the base those of the published ControlNets act: by their number."""
HEAD_WIDTH = 128


def config_from_shapes(a: Architecture) -> Config:
    """The config of a file that carries none; UndeterminedError where shapes leave some open."""
    places = KNOWN_PLACES.get((a.layers, _refiner(a)))
    if places is None or a.width % HEAD_WIDTH or a.head_width not in (0, HEAD_WIDTH):
        raise UndeterminedError(
            f"no shape says after which layers of the base the {a.layers} of this ControlNet act",
            hint="give a folder with a config.json that says control_layers_places, or --config "
            "FILE",
        )
    return complete_config({"control_layers_places": places}, a)


def complete_config(config: Mapping[str, Any], a: Architecture) -> Config:
    """What `ZImageControlNetModel` is built from: the shapes' fields, and the undetermined ones.

    CnctlError where the config is another network's.
    """
    if config.get("_class_name", CLASS) != CLASS:
        raise CnctlError(
            f"the config is that of a {config['_class_name']}, not of a {CLASS}",
            hint="give the config.json of this ControlNet",
        )
    determined = _from_shapes(a, config)
    for name, value in determined.items():
        if name in config and _plain(config[name]) != value:
            raise CnctlError(
                f"the config says {name} = {config[name]}, the weights say {value}",
                hint="the config belongs to another ControlNet",
            )
    undetermined = {
        "control_layers_places": _places(config, "control_layers_places", a.layers),
        "control_refiner_layers_places": _refiner_places(config, a),
        "norm_eps": config.get("norm_eps", 1e-5),
    }
    return determined | undetermined | {"_class_name": CLASS}


def base_name(config: Mapping[str, Any], name: str) -> str:
    """What the base calls a tensor of layers, refiner or embedder."""
    part, number, rest = name.removeprefix("control_").split(".", 2)
    if part == "layers":
        number = str(config["control_layers_places"][int(number)])
    return f"{part}.{number}.{rest}"


def _from_shapes(a: Architecture, config: Mapping[str, Any]) -> Config:
    heads = a.width // a.head_width if a.head_width else config.get("n_heads", 30)
    determined = {
        "add_control_noise_refiner": _refiner(a),
        "all_f_patch_size": [1],
        "all_patch_size": [PATCH_SIZE],
        "control_in_dim": a.hint_channels,
        "dim": a.width,
        "n_heads": heads,
        "n_kv_heads": heads,
        "qk_norm": bool(a.head_width),
    }
    own = {"n_refiner_layers": a.refiner_layers}
    return determined | (own if a.refiner_layers else {"n_refiner_layers": _base_refiners(config)})


def _refiner(a: Architecture) -> str | None:
    if not a.refiner_layers:
        return NO_REFINER
    return CONNECTED if a.connected else PLAIN


def _base_refiners(config: Mapping[str, Any]) -> Any:
    return config.get("n_refiner_layers", 2)


def _refiner_places(config: Mapping[str, Any], a: Architecture) -> list[int] | None:
    """None for version 1, whose refiner adds nothing to the base's."""
    refiner = _refiner(a)
    if refiner is PLAIN:
        return None
    name = "control_refiner_layers_places"
    most = a.layers if refiner == NO_REFINER else a.refiner_layers
    count = _base_refiners(config) if refiner == NO_REFINER else a.refiner_layers
    places = _places({name: config.get(name) or list(range(count))}, name, None)
    if len(places) > most:
        raise CnctlError(f"the config says {name} = {places}, of {most} layers", hint=_ANOTHER)
    return places


def _places(config: Mapping[str, Any], name: str, count: int | None) -> list[int]:
    """Numbers of layers in a config; CnctlError where they are not as many as there are layers."""
    places = _plain(config.get(name))
    numbers = isinstance(places, list) and all(type(one) is int and one >= 0 for one in places)
    if not numbers or len(set(places)) != len(places) or count not in (None, len(places)):
        raise CnctlError(
            f"the config says {name} = {places}, which is not one number for each layer",
            hint=_ANOTHER,
        )
    if count and 0 not in places:
        raise CnctlError(f"the config says {name} = {places}, without 0", hint=_ANOTHER)
    return list(places)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_ANOTHER = "the config belongs to another ControlNet"
