"""Batches as training reads them: examples loaded by their keys, here or by data workers."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from cnctl.errors import CnctlError
from cnctl.models.text_features import PictureSize
from cnctl.settings import TrainSettings
from cnctl.training.batch_sampler import EXAMPLE, BatchSampler, SampleKey


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

    @property
    def original(self) -> tuple[int, int] | None:
        """Height and width before the image was scaled and cut; None for its own."""

    @property
    def corner(self) -> tuple[int, int]:
        """Top and left of the cut."""


class Examples(Protocol):
    """The examples to train on. `load` is a function of its arguments alone."""

    def __len__(self) -> int: ...

    @property
    def groups(self) -> Sequence[int] | np.ndarray:
        """A number per example; examples of one group have one size and may share a batch."""

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        """Example `index`, with augmentations drawn from `rng` alone (None: without any)."""

    def name(self, index: int) -> str:
        """The name of an example in messages."""


@dataclass(frozen=True)
class Batch:
    """images: uint8 (B, H, W, 3); hints: B of uint8 or uint16 (H, W, C)."""

    keys: tuple[SampleKey, ...]
    images: np.ndarray
    hints: tuple[np.ndarray, ...]
    prompts: tuple[str, ...]
    sizes: tuple[PictureSize, ...]


def read_batches(
    examples: Examples, numbers: range, settings: TrainSettings, *, rank: int = 0
) -> Iterator[Batch]:
    """The effective batches of these numbers, each in as many as gradients accumulate over.

    Number n is what step n reads, as long as no step reads more than one (see `BatchGrowth`). Of
    `settings.num_processes` processes this is number `rank`: they take the batches in turn.

    Raises what an example raises, as it is.
    """
    loader = DataLoader(
        _KeyedExamples(examples, settings.seed),
        batch_sampler=_Schedule(numbers, examples, settings, rank),
        collate_fn=_collate,
        num_workers=settings.workers,
        worker_init_fn=_end_with_parent,
    )
    for batch in loader:
        if isinstance(batch, CnctlError):
            raise batch
        yield batch


def torch_generator(*key: int) -> torch.Generator:
    """A generator on the CPU that is a function of these numbers."""
    words = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


def _end_with_parent(_: int) -> None:
    """Have a data worker end where its parent was killed.

    torch's own watch comes too late where the worker is handing a batch over: nobody takes it.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _KeyedExamples(Dataset):
    """Examples by key; errors are handed on, for a worker would bury them in text."""

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples = examples
        self.seed = seed

    def __getitem__(self, key: SampleKey) -> tuple[SampleKey, Pair | CnctlError]:
        rng = np.random.default_rng([self.seed, EXAMPLE, *key])
        try:
            return key, self.examples.load(key[1], rng)
        except CnctlError as error:
            return key, error


class _Schedule:
    """The keys of each batch."""

    def __init__(
        self, numbers: range, examples: Examples, settings: TrainSettings, rank: int
    ) -> None:
        self.numbers = numbers
        self.rank = rank
        self.sampler = BatchSampler(
            examples.groups, batch_size=settings.effective_batch, seed=settings.seed
        )
        self.settings = settings

    def __len__(self) -> int:
        return len(self.numbers) * self.settings.gradient_accumulation

    def __iter__(self) -> Iterator[list[SampleKey]]:
        size = self.settings.batch_size
        for number in self.numbers:
            keys = self.sampler.at(number)
            batches = [keys[at : at + size] for at in range(0, len(keys), size)]
            yield from batches[self.rank :: self.settings.num_processes]


def _collate(placed: Sequence[tuple[SampleKey, Pair | CnctlError]]) -> Batch | CnctlError:
    examples = []
    for _, example in placed:
        if isinstance(example, CnctlError):
            return example
        examples.append(example)
    return Batch(
        keys=tuple(key for key, _ in placed),
        images=np.stack([example.image for example in examples]),
        hints=tuple(example.hint for example in examples),
        prompts=tuple(example.prompt for example in examples),
        sizes=tuple(map(_picture_size, examples)),
    )


def _picture_size(pair: Pair) -> PictureSize:
    height, width = pair.image.shape[:2]
    return (*(pair.original or (height, width)), *pair.corner, height, width)
