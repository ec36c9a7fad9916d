"""The scores of an embedded base on held-out scenes, as one JSON document.

    python tests/benchmarks/tiny.py [--base FOLDER] [--only canny,depth] [--prompt TEXT]

Class and colour, over 192 prompts: by a classifier that is trained here, from scratch, and whose
own score on held-out scenes stands beside. Each ControlNet, over 64 scenes: fidelity by its
condition's metric with control, without, of the same outputs to another scene's hint, and of the
scenes themselves after the autoencoder's round trip, the ceiling. For ip2p, whose hint is a scene
before a change, outputs are compared with the scene after it. Everything has fixed seeds.

Where a hint lacks something that the output is to have, a second score says how well it has it:
the F1 of the scene's own Canny edges for tile and blur-gaussian, and for inpaint the RMSE of what
was masked; "hint" is that of the hint itself, in whose hole is the mean of what it shows.

With --prompt all outputs have this prompt, and "class" is the share of the scenes with one object
that the base's captioner names in the output.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnctl.commands.shared.weights import open_control
from cnctl.data.scenes import SceneDataset
from cnctl.hints.captioner import load_own_captioner
from cnctl.hints.metrics import find_metric, score
from cnctl.hints.run import hint_from_maps, load_detector
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.latents import decode_latents, encode_images
from cnctl.models.network import hint_tensor
from cnctl.plugin import Condition, OptionValue
from cnctl.registry import get_condition
from cnctl.sampling.denoise import Control, sample
from cnctl.tiny.scenes import HELD_OUT, Scene, exact_maps, render_scene
from examples.tiny import base as recipe
from examples.tiny.judge import class_and_colour, train_judge
from examples.tiny.pairs import edited
from examples.tiny.scores import edge_f1, edges
from examples.tiny.train_autoencoder import round_trip

SCENES = 64
BATCH = 16
PEOPLE = {"openpose"}
"""Conditions that only scenes with a person have hints for."""
SHARING = {"blur-gaussian", "normal-bae"}
"""Conditions that use the ControlNet of another condition, with other hints."""
OPTIONS: Mapping[str, Mapping[str, OptionValue]] = {"tile": {"factor": 4.0}}
"""Options with which a hint lacks something; the default of tile keeps all detail."""
Detect = Callable[[np.ndarray], np.ndarray | None]


@dataclass(frozen=True)
class Case:
    """What is asked for: a hint and a prompt. wanted: the hint of the image that obeys them."""

    image: np.ndarray
    hint: np.ndarray
    prompt: str
    wanted: np.ndarray
    thing: str = ""
    """What the scene shows, where it is one object."""


def cases(condition: Condition) -> tuple[list[Case], Detect]:
    """Held-out cases of a condition, and how a hint is found again in a picture."""
    if condition.name == "ip2p":
        pairs = [edited(HELD_OUT + i) for i in range(SCENES)]
        return [Case(p.image, p.hint, p.prompt, p.image) for p in pairs], lambda image: image
    show = "person" if condition.name in PEOPLE else None
    drawn = [render_scene(HELD_OUT + i, show=show) for i in range(SCENES)]
    make, detect = makers(condition)
    made = [(scene, hint) for scene in drawn if (hint := make(scene)) is not None]
    return [
        Case(scene.image, hint, scene.prompt, hint, thing=only_object(scene))
        for scene, hint in made
    ], detect


def only_object(scene: Scene) -> str:
    """The name of a scene's only object; "" where there are several."""
    return scene.objects[0].name if len(scene.objects) == 1 else ""


def makers(condition: Condition) -> tuple[Callable[[Scene], np.ndarray | None], Detect]:
    """How a scene's hint is made, and how it is found again in a picture."""
    options = OPTIONS.get(condition.name, {})
    if condition.from_maps is None:
        load = load_detector(condition)
        return lambda scene: load(scene.image, **options), lambda image: load(image, **options)
    read = SceneDataset(count=1, size=128).read
    return (
        lambda scene: hint_from_maps(condition, exact_maps(scene)),
        lambda image: hint_from_maps(condition, read(image)),
    )


def generate(
    base: Base,
    prompts: Sequence[str],
    guidance_scale: float,
    control: Callable | None = None,
    *,
    first_seed: int = 0,
) -> list[np.ndarray]:
    """One output a prompt, each with the next seed."""
    outputs: list[np.ndarray] = []
    for start in range(0, len(prompts), BATCH):
        part = range(start, min(start + BATCH, len(prompts)))
        outputs += list(
            sample(
                base,
                [control(part)] if control else [],
                [prompts[i] for i in part],
                seeds=[first_seed + i for i in part],
                height=base.resolution,
                width=base.resolution,
                guidance_scale=guidance_scale,
                scheduler=base.defaults.get("scheduler", "ddim"),
            )
        )
    return outputs


def control_scores(
    base: Base,
    name: str,
    guidance_scale: float,
    without: dict[tuple[str, ...], list[np.ndarray]],
    prompt: str | None = None,
) -> dict[str, object]:
    """Fidelity of one ControlNet. without: outputs without control, by their prompts, as known."""
    condition = get_condition(name)
    asked, detect = cases(condition)
    network = open_control(condition, base)
    tensors = hint_tensor([case.hint for case in asked], channels=condition.hint_channels)

    def control(part: range) -> Control:
        return Control(network, tensors[part.start : part.stop])

    prompts = tuple(case.prompt if prompt is None else prompt for case in asked)
    obeyed = generate(base, prompts, guidance_scale, control)
    if prompts not in without:
        without[prompts] = generate(base, prompts, guidance_scale)
    free = without[prompts]
    copies = decode_latents(base, encode_images(base, np.stack([c.image for c in asked])))
    wanted = [case.wanted for case in asked]

    def mean(wanted: Sequence[np.ndarray], pictures: Sequence[np.ndarray]) -> float:
        pairs = zip(wanted, pictures, strict=True)
        return round(float(np.mean([score(condition.metric, h, detect(p)) for h, p in pairs])), 3)

    scores: dict[str, object] = {
        "metric": find_metric(condition.metric).name,
        "with": mean(wanted, obeyed),
        "without": mean(wanted, free),
        "wrong_hint": mean(wanted[1:] + wanted[:1], obeyed),
        "ceiling": mean(wanted, copies),
    }
    if prompt is not None:
        scores["class"] = share_named(base, asked, obeyed)
    if name == "ip2p":
        scores["unchanged"] = mean(wanted, [case.hint for case in asked])
    if name in ADDED:
        metric, measure = ADDED[name]
        shown = {"with": obeyed, "without": free, "hint": [filled(c.hint) for c in asked]}
        scores["added"] = {"metric": metric} | {
            how: round(float(np.mean(list(map(measure, asked, pictures)))), 3)
            for how, pictures in shown.items()
        }
    return scores


def share_named(base: Base, asked: Sequence[Case], pictures: Sequence[np.ndarray]) -> float:
    """How often the base's captioner names a scene's only object in the picture."""
    single = [pair for pair in zip(asked, pictures, strict=True) if pair[0].thing]
    captions = load_own_captioner(base.path, base.defaults, device="cpu")([p for _, p in single])
    named = [
        case.thing in caption.split() for (case, _), caption in zip(single, captions, strict=True)
    ]
    return round(float(np.mean(named)), 3)


def detail(case: Case, picture: np.ndarray) -> float:
    """F1 of the scene's own edges in a picture."""
    return edge_f1(edges(case.image), edges(picture), tolerance=2)


def hole_rmse(case: Case, picture: np.ndarray) -> float:
    """RMSE of what the hint masks, in units of the full range."""
    masked = case.hint[..., 3] == 0
    difference = case.image[masked].astype(np.float64) - picture[masked]
    return float(np.sqrt(np.mean(difference**2)) / 255)


def filled(hint: np.ndarray) -> np.ndarray:
    """The hint's colours; the mean of what it shows where it is masked."""
    picture = hint[..., :3].copy()
    if hint.shape[2] > picture.shape[2]:
        masked = hint[..., 3] == 0
        picture[masked] = picture[~masked].mean(axis=0)
    return picture


ADDED = {
    "tile": ("edge_f1", detail),
    "blur-gaussian": ("edge_f1", detail),
    "inpaint": ("hole_rmse", hole_rmse),
}
"""Conditions whose hints lack something that the output is to have: how well it has it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--prompt", help="for all outputs, in place of the scenes' prompts")
    parser.add_argument("--only", default="", help="ControlNets, by their conditions' names")
    arguments = parser.parse_args()
    base = load_base(arguments.base)
    guidance_scale = recipe.read_guidance_scale(base.path)
    scores: dict[str, object] = {}
    without: dict[tuple[str, ...], list[np.ndarray]] = {}
    if not arguments.only:
        judge, judged = train_judge()
        scores["autoencoder"] = round_trip(base.vae, 256)
        scores["judge"] = judged
        scores["base"] = class_and_colour(
            lambda prompts, seed: np.stack(
                generate(base, prompts, guidance_scale, first_seed=seed)
            ),
            judge,
        )
    own = {folder.name for folder in (base.path / "controls").iterdir()}
    found = sorted(own | (SHARING & base.family.controlnets.keys()))
    for name in arguments.only.split(",") if arguments.only else found:
        scores[name] = control_scores(base, name, guidance_scale, without, arguments.prompt)
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
