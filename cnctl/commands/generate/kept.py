"""`--resume`: the images that an earlier run has made."""

from __future__ import annotations

from dataclasses import replace

from cnctl.commands.generate.describe import plan_record
from cnctl.commands.generate.generated import GeneratedImage, generated
from cnctl.commands.generate.outputs import PlannedImage
from cnctl.commands.generate.prepared_images import stored_hints
from cnctl.commands.generate.record import ImageRecord, read_record
from cnctl.commands.generate.setup import Setup
from cnctl.commands.generate.sources import list_sources
from cnctl.errors import CnctlError, OutputError, counted

OTHER = "take another --seed or -o, or --overwrite"


def kept_images(setup: Setup) -> list[GeneratedImage]:
    """The images that exist; OutputError where this run would make one otherwise."""
    kept = [keep_image(setup, planned) for planned in setup.images if planned.done]
    if kept:
        setup.note(f"{counted(len(kept), 'image')} kept, made by an earlier run")
    return kept


def keep_image(setup: Setup, image: PlannedImage) -> GeneratedImage:
    """The image at this path; OutputError where this run would make it otherwise."""
    sources = list_sources(setup.controls, image.task.image)
    planned, found = plan_record(setup, image, sources), _read(image)
    if setup.recaption:
        planned = replace(planned, prompt=found.prompt)
    if changed := planned.differences(found):
        raise OutputError(
            f"{image.path} was made with other settings: {', '.join(changed[:3])}", hint=OTHER
        )
    hint = stored_hints(setup, image.task, sources)[0]
    return generated(image, hint.with_name(found.controls[0].hint.name), found)


def _read(image: PlannedImage) -> ImageRecord:
    try:
        return read_record(image.path)
    except CnctlError as error:
        raise OutputError(str(error), hint=OTHER) from error
