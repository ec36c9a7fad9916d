"""Write the generated part of docs/conditions/ from the conditions; run it after changing one.

Each page keeps its text above the marker, and gets its facts below; index.md is generated whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cnctl.commands.shared.known_controls import known_weights
from cnctl.hints.files import describe
from cnctl.hints.options import describe_range
from cnctl.plugin import Condition
from cnctl.registry import OWN_DISTRIBUTION, list_conditions

FOLDER = Path(__file__).with_name("conditions")
SCORES = Path(__file__).with_name("tiny-scores.json")
"""What `python tests/benchmarks/tiny.py` printed last."""
MARKER = "<!-- Below: written by docs/conditions_reference.py. -->"


def own_conditions() -> list[Condition]:
    entries = list_conditions()
    return [e.condition for e in entries if e.condition and e.distribution == OWN_DISTRIBUTION]


def page(condition: Condition, written: str) -> str:
    """The page: what a person wrote, the marker, the facts."""
    above = written.partition(MARKER)[0] or f"# {condition.name}\n\n{condition.summary}.\n\n"
    return above.rstrip() + f"\n\n{MARKER}\n\n" + "\n".join(facts(condition)).rstrip() + "\n"


def facts(condition: Condition) -> Iterator[str]:
    if condition.options:
        yield from ("## Options", "", "| option | default | values | |", "|---|---|---|---|")
        for name, option in condition.options.items():
            default = str(option.default)
            default = default.lower() if isinstance(option.default, bool) else default
            yield f"| `{name}` | {default} | {describe_range(option)} | {option.help} |"
        yield ""
    yield from ("## Weights of the detector", "")
    yield from [f"- {describe(file)}" for file in condition.files.values()] or [
        "The detector needs no weights."
    ]
    if condition.files:
        yield from ("", f"`cnctl models pull {condition.name}` fetches them.")
    yield from ("", "## ControlNets", "")
    if known := known_weights(condition):
        yield from ("| weights | base | licence |", "|---|---|---|")
        yield from (f"| `{w.source}` | {w.family} | {w.licence} |" for w in known)
        yield from on_tiny(condition)
    else:
        own = f"`cnctl train --cond {condition.name}`"
        yield f"No released ControlNet reads these hints; train one: {own}."
    yield from ("", "## Training", "")
    yield from training(condition)
    yield from ("", "## References", "", *(f"- {text}" for text in condition.references))


def on_tiny(condition: Condition) -> Iterator[str]:
    """What the condition's ControlNet for the embedded base reached."""
    scores = json.loads(SCORES.read_text(encoding="utf-8"))
    for weights in known_weights(condition):
        if weights.family == "tiny":
            found = scores.get(condition.name) or scores[weights.source.removeprefix("tiny/")]
            yield ""
            yield (
                f"On the embedded base, `{found['metric']}` on 64 held-out scenes is "
                f"{found['with']} with control, {found['without']} without, and "
                f"{found['wrong_hint']} against another scene's hint; the scenes themselves, after "
                f"the autoencoder, reach {found['ceiling']} (`python tests/benchmarks/tiny.py`)."
            )


def training(condition: Condition) -> Iterator[str]:
    train = condition.train
    yield f"- data: {train.recipe or 'not stated'}"
    start = "starts from a copy of the base"
    if train.start_from:
        start = f"the paper starts from the ControlNet for {train.start_from}"
        start += " (`cnctl train --init-from WEIGHTS` does so)"
    yield f"- {start}; base `{condition.base}`"
    metric = condition.metric
    yield f"- fidelity: `{metric if isinstance(metric, str) else metric.name}`"


def index(conditions: list[Condition]) -> str:
    rows = [f"| [{c.name}]({c.name}.md) | {c.summary} | {c.licence} |" for c in conditions]
    names = [c.name for c in conditions]
    return "\n".join(
        [
            "# Conditions",
            "",
            "The kinds of hint that come with cnctl. `cnctl conditions` lists these and those of",
            "other packages; [write a condition](../write-a-condition.md) to add one.",
            "",
            "If a detector needs weights that are not installed, an error says which, how large",
            "they are and under which licence. `cnctl models pull NAME` fetches them at a fixed",
            "commit, checks their sha256, and converts them once to safetensors without running",
            "code in them. cnctl finds your own weights in the folder that `CNCTL_DETECTORS` (or",
            "`detectors` in `cnctl.toml`) names. `cnctl annotate --commercial`, or",
            "`CNCTL_COMMERCIAL=1`, refuses weights that are licensed for research only.",
            "",
            "`cnctl annotate --cond canny,hed,depth photos` makes several hints in one pass, and",
            "`--compare` shows each photo beside them, like figures 23 to 25 of the paper.",
            "",
            "| name | hint | licence of the detector |",
            "|---|---|---|",
            *rows,
            "",
            "```{toctree}",
            ":hidden:",
            *names,
            "```",
            "",
        ]
    )


def pages() -> dict[Path, str]:
    """Every page as it should be."""
    conditions = own_conditions()
    texts = {FOLDER / "index.md": index(conditions)}
    for condition in conditions:
        path = FOLDER / f"{condition.name}.md"
        texts[path] = page(condition, path.read_text("utf-8") if path.is_file() else "")
    return texts


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
