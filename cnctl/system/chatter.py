"""What libraries print that is no error: a command keeps it off stderr, and off its workers'."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import LogRecord


def hush() -> None:
    """Keep libraries' warnings and logs off stderr, but for errors and cnctl's own."""
    import logging  # here, so that `cnctl --help` stays quick
    import warnings

    warnings.simplefilter("ignore")
    if logging.lastResort:  # prints what is logged without a handler
        logging.lastResort.addFilter(_is_shown)
    logging.getLogger("torch.utils.cpp_extension").addFilter(_is_shown)  # PyTorch has handlers
    for name, value in {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_VERBOSITY": "error",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "OPENCV_FFMPEG_LOGLEVEL": "-8",
    }.items():
        os.environ.setdefault(name, value)


def is_hushed() -> bool:
    """Whether `hush` was called, so that a new process is to call it too."""
    import logging

    return logging.lastResort is not None and _is_shown in logging.lastResort.filters


def _is_shown(record: LogRecord) -> bool:
    """Of cnctl's own log everything, of libraries' errors alone."""
    return record.name == "cnctl" or record.levelname in ("ERROR", "CRITICAL")
