"""Pairs of image and hint with a prompt: read, checked, prepared for training, written."""

from cnctl.dataset.check import DataReport, Problem, check_dataset
from cnctl.dataset.examples import Dataset, Example, open_dataset
from cnctl.dataset.pairs import Pair, Selection, TrainingPairs
from cnctl.dataset.subset import take_part
from cnctl.dataset.writer import DatasetWriter

__all__ = [
    "DataReport",
    "Dataset",
    "DatasetWriter",
    "Example",
    "Pair",
    "Problem",
    "Selection",
    "TrainingPairs",
    "check_dataset",
    "open_dataset",
    "take_part",
]
