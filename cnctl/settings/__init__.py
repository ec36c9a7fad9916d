"""Settings as frozen values; each field declares its flag, help, range and default.

A value is taken from the first that gives one: flag, environment (CNCTL_GENERATE_STEPS=30),
settings file, the base model, the condition, and at last the field's default.
"""

from cnctl.settings.annotate import AnnotateSettings
from cnctl.settings.common import CommonSettings
from cnctl.settings.file import read_config
from cnctl.settings.generate import GenerateSettings
from cnctl.settings.resolve import common_settings, parse_setting, resolve
from cnctl.settings.train import TrainSettings

__all__ = [
    "AnnotateSettings",
    "CommonSettings",
    "GenerateSettings",
    "TrainSettings",
    "common_settings",
    "parse_setting",
    "read_config",
    "resolve",
]
