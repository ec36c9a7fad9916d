"""People's poses by OpenPifPaf, which runs in a separate Python environment (paper, section 3.5).

Its code is AGPL-3.0 and pins an old torch, so it stays out of this process: it is given a picture
and gives JSON. Such JSON, from wherever, can be drawn without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import CnctlError, Detection, GroundTruth, MissingError, Option, TrainDefaults
from cnctl_conditions.openpose import (
    POSE_BASE,
    POSE_OPTIONS,
    openpose,
    pose_detection,
)
from cnctl_conditions.shared.annotators import SECTION
from cnctl_conditions.shared.pose_json import triples
from cnctl_conditions.shared.skeleton import from_coco

if TYPE_CHECKING:
    import subprocess

    from cnctl.plugin import Detector, Image
    from cnctl_conditions.shared.pose_json import Person

    Size = tuple[int, int]

COCO_POINTS = 17
PATIENCE = 600
"""Seconds for one picture; the first run of OpenPifPaf fetches its own weights."""


def load_detector(device: str) -> Detector:
    def detect(
        image: Image,
        *,
        python: str,
        point_score: float,
        min_keypoints: float,
        style: str,
        stick_width: int,
    ) -> Detection | None:
        people = read_predictions(predict(image, python), least_score=point_score)
        return pose_detection(
            people,
            image.shape[:2],
            min_keypoints=min_keypoints,
            style=style,
            stick_width=stick_width,
        )

    return detect


def predict(image: Image, python: str) -> Any:
    """What `python -m openpifpaf.predict` says of the image: a list of its annotations."""
    import tempfile

    import cv2

    if not python:
        raise MissingError(
            "openpifpaf runs in a separate Python environment (AGPL-3.0), and none is named",
            hint="--option python=/path/to/venv/bin/python; or use --cond pose",
        )
    with tempfile.TemporaryDirectory(prefix="cnctl-") as folder:
        picture = Path(folder) / "picture.png"
        cv2.imwrite(str(picture), image[..., ::-1])
        command = [python, "-m", "openpifpaf.predict", str(picture), "--json-output", folder]
        run = _run(command)
        written = Path(folder) / "picture.png.predictions.json"
        if run.returncode or not written.is_file():
            last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
            raise MissingError(
                f"{python} -m openpifpaf.predict failed: {last}",
                hint="that Python needs openpifpaf and its weights",
            )
        return json.loads(written.read_text(encoding="utf-8"))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    import subprocess

    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(
            f"{command[0]} could not run openpifpaf: {error}",
            hint="name a Python that has it: --option python=/path/to/venv/bin/python",
        ) from error


def read_predictions(predictions: Any, *, least_score: float = 0.0) -> list[Person]:
    """OpenPifPaf's annotations: x, y, confidence of COCO's 17 points each; 0 where hidden."""
    if not isinstance(predictions, list):
        raise CnctlError("OpenPifPaf's predictions are a list of annotations")
    people = []
    for annotation in predictions:
        flat = annotation.get("keypoints") if isinstance(annotation, Mapping) else None
        if not isinstance(flat, list) or len(flat) != 3 * COCO_POINTS:
            raise CnctlError(f"an annotation of OpenPifPaf has {COCO_POINTS} key points")
        people.append(
            from_coco([(x, y, v) if v > least_score else None for x, y, v in triples(flat)])
        )
    return people


def read_stated(
    values: Any,
    *,
    sizes: tuple[Size, Size] | None,
    python: str,
    point_score: float,
    **drawing: Any,
) -> Detection | None:
    """Predictions for a picture, in its pixels, drawn at the size of the hint.

    None where the JSON is a pose editor's.
    """
    if isinstance(values, Mapping):
        return None
    if sizes is None:
        raise CnctlError(
            "OpenPifPaf's predictions do not say how large their picture is",
            hint="cnctl annotate --ground-truth reads them beside their pictures",
        )
    (rows, columns), (height, width) = sizes
    people = [
        [p and (p[0] * width / columns, p[1] * height / rows, p[2]) for p in person]
        for person in read_predictions(values, least_score=point_score)
    ]
    found = pose_detection(people, (height, width), **drawing)
    if found is None:
        raise CnctlError("nobody in it shows enough points")
    return found


openpifpaf = replace(
    openpose,
    name="openpifpaf",
    summary="People's poses by OpenPifPaf in a separate Python environment",
    load_detector=load_detector,
    files={},
    ground_truth=GroundTruth(name="{name}.predictions.json", read=read_stated),
    options={
        "python": Option("", "interpreter that has openpifpaf", required=True),
        "point_score": Option(0.0, "less certain points are dropped", minimum=0.0, maximum=1.0),
        **POSE_OPTIONS,
    },
    train=TrainDefaults(
        recipe="80k pose-image-caption pairs from the internet, images in which a human shows at "
        "least 30 % of the key points; 400 RTX 3090TI GPU-hours",
    ),
    base=POSE_BASE,
    licence="AGPL-3.0 (OpenPifPaf, not part of cnctl)",
    references=(
        SECTION,
        "Kreiss, Bertoni, Alahi: OpenPifPaf, IEEE T-ITS 23(8), 2022",
    ),
)
