"""One self-contained page on a training run, made from what the run has written."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnctl.commands.shared.report.pages import embedded, render
from cnctl.commands.shared.report.plots import Curve, plot
from cnctl.errors import writing
from cnctl.system.atomic import atomic_file

PACKAGES = ("cnctl", "torch", "diffusers", "transformers", "accelerate", "numpy")
PICTURES = 8
"""Previews on the page at most: the first, the last, the one of convergence, and between them."""
POINTS = 400
"""Points of a curve at most; each is then the mean of its steps."""


def write_report(log: Path, previews: Path, target: Path) -> None:
    """Write a page from a run's log and pictures; it needs no other file and no network.

    Raises OutputError where it cannot be written.
    """
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    page = _page(entries, previews)
    hint = "free some space, then write it again with --resume"
    with writing(target, hint=hint), atomic_file(target, overwrite=True) as file:
        file.write(page.encode("utf-8", "backslashreplace"))


def _page(entries: Sequence[Mapping[str, Any]], previews: Path) -> str:
    begun = next(entry for entry in entries if entry["event"] == "start")
    steps = [entry for entry in entries if entry["event"] == "step"]
    looks = [entry for entry in entries if entry["event"] == "preview"]
    converged = next((e["step"] for e in entries if e["event"] == "convergence"), None)
    marks = {} if converged is None else {f"converged, {converged}": converged}
    grown = {e["step"]: e["batch"] for e in entries if e["event"] == "growth"}
    marks |= {f"batch {batch}, {step}": step for step, batch in grown.items()}
    return render(
        "training.html.j2",
        title=f"cnctl train: {begun['condition']}",
        summary=_in_short(steps, looks, converged, grown),
        plots=dict(_plots(steps, looks, marks)),
        previews=dict(_pictures(looks, converged, previews)),
        run={k: v for k, v in begun.items() if k not in ("event", "settings")},
        settings=begun["settings"],
        environment=_environment(),
    )


def _in_short(
    steps: Sequence[Mapping[str, Any]],
    looks: Sequence[Mapping[str, Any]],
    converged: int | None,
    grown: Mapping[int, int],
) -> str:
    done = steps[-1]["step"] if steps else 0
    scores = [look["fidelity"] for look in looks if look["fidelity"] is not None]
    said = [f"{done} steps."]
    if scores:
        metric = looks[-1]["metric"]
        said.append(f"{metric} on held-out examples: {scores[0]:.3f} -> {scores[-1]:.3f}.")
        found = "No sudden convergence." if converged is None else f"Converged at step {converged}."
        said.append(found)
    missing = next((look["missing"] for look in reversed(looks) if "missing" in look), None)
    if missing is not None:
        said.append(f"Fidelity was not measured: {missing}.")
    said += [f"Batches of {batch} from step {step} on." for step, batch in grown.items()]
    return " ".join(said)


def _plots(
    steps: Sequence[Mapping[str, Any]],
    looks: Sequence[Mapping[str, Any]],
    marks: Mapping[str, int],
) -> Iterator[tuple[str, str]]:
    scores = [(look["step"], look["fidelity"]) for look in looks if look["fidelity"] is not None]
    named = {
        f"Fidelity ({looks[-1]['metric']})" if looks else "": scores,
        "Loss": _thinned([(entry["step"], entry["loss"]) for entry in steps]),
        "Learning rate": _thinned([(entry["step"], entry["learning_rate"]) for entry in steps]),
    }
    for name, curve in named.items():
        if len(curve) > 1:
            yield name, plot({name: curve}, marks=marks)


def _thinned(curve: Curve) -> Curve:
    """Returns at most POINTS points, each the mean of an equal number of steps."""
    size = -(-len(curve) // POINTS) or 1
    parts = [curve[at : at + size] for at in range(0, len(curve), size)]
    return [tuple(map(statistics.fmean, zip(*part, strict=True))) for part in parts]  # type: ignore[misc]


def _pictures(
    looks: Sequence[Mapping[str, Any]], converged: int | None, folder: Path
) -> Iterator[tuple[str, str]]:
    chosen = {round(i * (len(looks) - 1) / (PICTURES - 2)) for i in range(PICTURES - 1)}
    for i, look in enumerate(looks):
        path = folder / f"step-{look['step']:08d}.png"
        if (i in chosen or look["step"] == converged) and path.is_file():
            score = "" if look["fidelity"] is None else f", {look['metric']} {look['fidelity']:.3f}"
            yield f"step {look['step']}{score}", embedded(path.read_bytes(), format="png")


def _environment() -> dict[str, str]:
    here = {"python": platform.python_version(), "system": platform.platform()}
    return here | {package: version(package) for package in PACKAGES}
