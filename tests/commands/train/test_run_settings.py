"""What settings declare is what the layers below know."""

from typing import get_args

from cnctl.images import Resize
from cnctl.models.control import MODES
from cnctl.models.network import CONNECTIONS, METHODS
from cnctl.settings import GenerateSettings, TrainSettings
from cnctl.settings.declaration import declarations


def choices(kind: type, name: str) -> tuple[str, ...]:
    return tuple((declarations(kind)[name].metavar or "").split("|"))


def test_choices_are_those_of_networks_and_images() -> None:
    assert choices(TrainSettings, "method") == METHODS
    assert choices(TrainSettings, "connect") == CONNECTIONS
    assert choices(GenerateSettings, "control_mode") == MODES
    assert choices(GenerateSettings, "resize") == get_args(Resize)
