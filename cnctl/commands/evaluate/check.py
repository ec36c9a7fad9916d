"""What makes no sense in a request, said before anything is read."""

from __future__ import annotations

from pathlib import Path

from cnctl.commands.evaluate.request import EvaluateRequest
from cnctl.commands.evaluate.result import DOCUMENT, PAGE, PLOT
from cnctl.errors import CnctlError
from cnctl.images import check_folder, check_output


def check_request(request: EvaluateRequest) -> None:
    """CnctlError where the request makes no sense, OutputError where nothing can be written."""
    if request.data is None and not request.outputs:
        raise CnctlError("nothing to evaluate", hint="name --data, for example --data scenes:64")
    for given, flag in ((request.weights, "--control"), (request.configs, "--config")):
        if request.outputs and given:
            raise CnctlError(
                f"{flag} is for images that evaluate makes", hint="leave out --outputs"
            )
    weights_of_sets(request)
    if request.data is None and request.ready_hint:
        raise CnctlError("--hint is for a folder of hints", hint="name it with --data")
    for names, flag in ((request.weights, "--control"), (request.outputs, "--outputs")):
        if len({*map(str, names)}) != len(names):
            raise CnctlError(f"one {flag} is named twice", hint="name each once")
    if {"fid", "kid"} & {*request.metrics} and (request.data is None or request.ready_hint):
        raise CnctlError("FID and KID compare with photographs", hint="name them with --data")
    out = Path(request.out)
    for name in (DOCUMENT, PAGE, PLOT):
        check_output(out / name, overwrite=request.overwrite or request.resume)
    check_folder(out)


def weights_of_sets(request: EvaluateRequest) -> list[tuple[str, Path | str]]:
    """The weights of each set, and their config; "" for the base's own, and for none."""
    weights, configs = request.weights or [""], request.configs
    if configs and len(configs) != len(weights):
        raise CnctlError(
            f"{len(configs)} --config for {len(weights)} --control",
            hint="give one for each, in the same order, or none",
        )
    return [*zip(weights, configs or [""] * len(weights), strict=True)]
