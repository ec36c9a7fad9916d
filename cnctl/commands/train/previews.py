"""Previews: a picture of what the network makes of held-out examples, and its fidelity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cnctl.commands.shared.report.sheets import arrange, visible
from cnctl.hints.metrics import score
from cnctl.models.base import Base
from cnctl.models.network import Network, hint_tensor
from cnctl.plugin import Metric
from cnctl.sampling.denoise import sample

ROWS = 4
"""Examples in the picture."""

Detect = Callable[[np.ndarray], np.ndarray | None]


@dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """Examples and how to generate from them, the same at each preview of a run.

    hints: N of uint8 or uint16 (H, W, C), none of them dead. detect: RGB uint8 (H, W, 3) -> its
    hint. missing: what the detector lacks; then fidelity is not measured.
    """

    hints: Sequence[np.ndarray]
    prompts: Sequence[str]
    detect: Detect
    metric: str | Metric
    steps: int
    guidance_scale: float
    scheduler: str
    batch_size: int
    missing: str = ""


@dataclass(frozen=True)
class Preview:
    """fidelity: mean over the examples, None where the detector lacks something.

    picture: RGB uint8 (H, W, 3).
    """

    fidelity: float | None
    picture: np.ndarray


def make_preview(
    base: Base,
    network: Network,
    validation: ValidationSet,
    *,
    on_step: Callable[[], None] = lambda: None,
) -> Preview | None:
    """Generate from each hint with its prompt, and from the first few with the empty one too.

    The picture has a row for each of the first examples: hint, output with prompt, output without.
    Example i is always generated with seed i. Returns None where there are no examples.
    """
    if not len(validation.hints):
        return None
    training = network.training
    network.eval()
    try:
        outputs = _generate(base, network, validation, validation.prompts, on_step)
        without = _generate(base, network, validation, [""] * min(ROWS, len(outputs)), on_step)
    finally:
        network.train(training)
    rows = zip(validation.hints[:ROWS], outputs[:ROWS], without, strict=True)
    picture = arrange([[visible(hint), *pair] for hint, *pair in rows])
    return Preview(_fidelity(validation, outputs), picture)


def _fidelity(validation: ValidationSet, outputs: np.ndarray) -> float | None:
    """Mean score of outputs uint8 (B, H, W, 3); None where the detector lacks something."""
    if validation.missing:
        return None
    found = [validation.detect(output) for output in outputs]
    scores = [score(validation.metric, *pair) for pair in zip(validation.hints, found, strict=True)]
    return float(np.mean(scores))


def _generate(
    base: Base,
    network: Network,
    validation: ValidationSet,
    prompts: Sequence[str],
    on_step: Callable[[], None],
) -> np.ndarray:
    """Outputs uint8 (B, H, W, 3) from the first B hints."""
    parts = []
    for first in range(0, len(prompts), validation.batch_size):
        part = slice(first, min(first + validation.batch_size, len(prompts)))
        hints = hint_tensor(validation.hints[part], channels=network.hint_channels)
        parts.append(
            sample(
                *network.attach(base, hints),
                prompts[part],
                seeds=range(part.start, part.stop),
                height=hints.shape[2],
                width=hints.shape[3],
                steps=validation.steps,
                # Without a prompt both halves of the guidance are one and the same.
                guidance_scale=validation.guidance_scale if any(prompts[part]) else 1.0,
                scheduler=validation.scheduler,
                on_step=lambda _: on_step(),
            )
        )
    return np.concatenate(parts)
