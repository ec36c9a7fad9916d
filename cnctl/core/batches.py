"""Which examples a step trains on: a function of (seed, step), whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from cnctl.errors import CnctlError
from cnctl.settings import TrainSettings

ORDER, EXAMPLE, DRAWN, DROPOUT, HELD_OUT = range(5)
"""What a random stream is for; part of its seed."""

Place = tuple[int, int]
"""(epoch, index) of an example: no two of a run are alike, and all that is random in it is a
function of them and the seed."""


class Pair(Protocol):
    """An image with its hint and prompt."""

    @property
    def image(self) -> np.ndarray:
        """RGB uint8 (H, W, 3)"""

    @property
    def hint(self) -> np.ndarray:
        """uint8 or uint16 (H, W, C)"""

    @property
    def prompt(self) -> str: ...


class Examples(Protocol):
    """What is trained on. `load` is a function of its arguments alone; sizes are all the same."""

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        """Example `index`, with augmentations drawn from `rng` alone (None: without any)."""

    def name(self, index: int) -> str:
        """What to call an example in a message."""


@dataclass(frozen=True)
class Batch:
    """images: uint8 (B, H, W, 3); hints: B of uint8 or uint16 (H, W, C)."""

    places: tuple[Place, ...]
    images: np.ndarray
    hints: tuple[np.ndarray, ...]
    prompts: tuple[str, ...]


def read_batches(examples: Examples, first: int, settings: TrainSettings) -> Iterator[Batch]:
    """The batches from step `first` to the last, as many per step as gradients accumulate over.

    Raises what an example raises, as it is.
    """
    loader = DataLoader(
        _Placed(examples, settings.seed),
        batch_sampler=_Schedule(first, len(examples), settings),
        collate_fn=_collate,
        num_workers=settings.workers,
    )
    for batch in loader:
        if isinstance(batch, CnctlError):
            raise batch
        yield batch


def examples_at(step: int, *, count: int, batch_size: int, seed: int) -> list[Place]:
    """The examples that step `step` (from 0) trains on.

    Each epoch is a permutation of all examples; a batch may span two epochs, and none is dropped.
    """
    places = range(step * batch_size, (step + 1) * batch_size)
    return [
        (place // count, int(_order(seed, place // count, count)[place % count]))
        for place in places
    ]


def epoch_at(step: int, count: int, batch_size: int) -> int:
    """The epoch, from 0, in which a run is after so many steps."""
    return step * batch_size // count


def hold_out(count: int, *, wanted: int, seed: int) -> tuple[list[int], list[int]]:
    """Split `count` examples by seed into those to train on and those to measure with.

    Never more than a tenth is held out, so that small sets may have none.
    """
    order = np.random.default_rng([seed, HELD_OUT]).permutation(count)
    chosen = min(wanted, count // 10)
    return sorted(order[chosen:].tolist()), sorted(order[:chosen].tolist())


def torch_generator(*key: int) -> torch.Generator:
    """A generator on the CPU that is a function of these numbers."""
    words = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


class _Placed(Dataset):
    """Examples by place; errors are handed on, for a worker would bury them in text."""

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples = examples
        self.seed = seed

    def __getitem__(self, place: Place) -> tuple[Place, Pair | CnctlError]:
        rng = np.random.default_rng([self.seed, EXAMPLE, *place])
        try:
            return place, self.examples.load(place[1], rng)
        except CnctlError as error:
            return place, error


class _Schedule:
    """The places of each batch, from a step to the last."""

    def __init__(self, first: int, count: int, settings: TrainSettings) -> None:
        self.steps = range(first, settings.steps)
        self.count = count
        self.settings = settings

    def __len__(self) -> int:
        return len(self.steps) * self.settings.gradient_accumulation

    def __iter__(self) -> Iterator[list[Place]]:
        size = self.settings.batch_size
        for step in self.steps:
            places = examples_at(
                step,
                count=self.count,
                batch_size=self.settings.effective_batch,
                seed=self.settings.seed,
            )
            yield from (places[at : at + size] for at in range(0, len(places), size))


def _collate(placed: Sequence[tuple[Place, Pair | CnctlError]]) -> Batch | CnctlError:
    examples = []
    for _, example in placed:
        if isinstance(example, CnctlError):
            return example
        examples.append(example)
    return Batch(
        places=tuple(place for place, _ in placed),
        images=np.stack([example.image for example in examples]),
        hints=tuple(example.hint for example in examples),
        prompts=tuple(example.prompt for example in examples),
    )


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, ORDER, epoch]).permutation(count)
