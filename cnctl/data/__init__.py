"""Pairs of image and hint with a prompt: read, checked, prepared for training."""

from cnctl.data.check import DataReport, check_dataset
from cnctl.data.examples import Dataset, Example
from cnctl.data.open import open_dataset
from cnctl.data.pairs import Pair, Selection, TrainingPairs
from cnctl.data.problems import Problem
from cnctl.data.subset import take_part

__all__ = [
    "DataReport",
    "Dataset",
    "Example",
    "Pair",
    "Problem",
    "Selection",
    "TrainingPairs",
    "check_dataset",
    "open_dataset",
    "take_part",
]
