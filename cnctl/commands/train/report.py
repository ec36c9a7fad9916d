"""One self-contained page on a training run, made from what the run has written."""

from __future__ import annotations

import base64
import json
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnctl.commands.shared.report.plots import Curve, plot
from cnctl.errors import OutputError

PACKAGES = ("cnctl", "torch", "diffusers", "transformers", "accelerate", "numpy")
PICTURES = 8
"""Previews on the page at most: the first, the last, the one of convergence, and between them."""
POINTS = 400
"""Of a curve at most; each is then the mean of its steps."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td { padding: .1rem 1rem .1rem 0; vertical-align: top }
img { max-width: 100% } figure { margin: 1rem 0 }
"""


def write_report(log: Path, previews: Path, target: Path) -> None:
    """Write a page from a run's log and pictures; it needs no other file and no network.

    Raises OutputError where it cannot be written.
    """
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    try:
        target.write_text(_page(entries, previews), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{target} could not be written: {error.strerror}",
            hint="free some space, then write it again with --resume",
        ) from error


def _page(entries: Sequence[Mapping[str, Any]], previews: Path) -> str:
    begun = next(entry for entry in entries if entry["event"] == "start")
    steps = [entry for entry in entries if entry["event"] == "step"]
    looks = [entry for entry in entries if entry["event"] == "preview"]
    converged = next((e["step"] for e in entries if e["event"] == "convergence"), None)
    marks = {} if converged is None else {f"converged, {converged}": converged}
    grown = {e["step"]: e["batch"] for e in entries if e["event"] == "growth"}
    marks |= {f"batch {batch}, {step}": step for step, batch in grown.items()}
    title = f"cnctl train: {begun['condition']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_in_short(steps, looks, converged, grown))}</p>",
        *_curves(steps, looks, marks),
        "<h2>Previews</h2><p>Rows: held-out examples. Columns: hint, with prompt, without.</p>",
        *_pictures(looks, converged, previews),
        "<h2>Settings</h2>",
        _table({k: v for k, v in begun.items() if k not in ("event", "settings")}),
        _table(begun["settings"]),
        "<h2>Environment</h2>",
        _table(_environment()),
    ]
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{STYLE}</style>"
    return "\n".join(["<!doctype html><html lang='en'>", head, *parts, "</html>", ""])


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
    said += [f"Batches of {batch} from step {step} on." for step, batch in grown.items()]
    return " ".join(said)


def _curves(
    steps: Sequence[Mapping[str, Any]],
    looks: Sequence[Mapping[str, Any]],
    marks: Mapping[str, int],
) -> Iterator[str]:
    scores = [(look["step"], look["fidelity"]) for look in looks if look["fidelity"] is not None]
    named = {
        f"Fidelity ({looks[-1]['metric']})" if looks else "": scores,
        "Loss": _thinned([(entry["step"], entry["loss"]) for entry in steps]),
        "Learning rate": _thinned([(entry["step"], entry["learning_rate"]) for entry in steps]),
    }
    for name, curve in named.items():
        if len(curve) > 1:
            yield (
                f"<figure><figcaption>{escape(name)}</figcaption>"
                f"{plot({name: curve}, marks=marks)}</figure>"
            )


def _thinned(curve: Curve) -> Curve:
    """At most POINTS points, each the mean of as many steps."""
    size = -(-len(curve) // POINTS) or 1
    parts = [curve[at : at + size] for at in range(0, len(curve), size)]
    return [tuple(map(statistics.fmean, zip(*part, strict=True))) for part in parts]  # type: ignore[misc]


def _pictures(
    looks: Sequence[Mapping[str, Any]], converged: int | None, folder: Path
) -> Iterator[str]:
    chosen = {round(i * (len(looks) - 1) / (PICTURES - 2)) for i in range(PICTURES - 1)}
    for i, look in enumerate(looks):
        path = folder / f"step-{look['step']:08d}.png"
        if (i in chosen or look["step"] == converged) and path.is_file():
            score = "" if look["fidelity"] is None else f", {look['metric']} {look['fidelity']:.3f}"
            data = base64.b64encode(path.read_bytes()).decode()
            yield (
                f"<figure><figcaption>step {look['step']}{score}</figcaption>"
                f"<img alt='preview' src='data:image/png;base64,{data}'></figure>"
            )


def _environment() -> dict[str, str]:
    here = {"python": platform.python_version(), "system": platform.platform()}
    return here | {package: version(package) for package in PACKAGES}


def _table(values: Mapping[str, Any]) -> str:
    rows = (
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in values.items()
        if value is not None
    )
    return f"<table>{''.join(rows)}</table>"
