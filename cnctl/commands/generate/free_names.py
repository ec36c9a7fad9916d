"""The names of images, where other runs write into the same folder meanwhile."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from cnctl.commands.generate.generated import GeneratedImage
from cnctl.commands.generate.kept import keep_image
from cnctl.commands.generate.prepared_images import PreparedImage
from cnctl.commands.generate.setup import Setup
from cnctl.errors import shown


def with_free_names(
    setup: Setup, images: Sequence[PreparedImage]
) -> Generator[GeneratedImage, None, list[PreparedImage]]:
    """The images that are still to make: those whose names are taken get the next free seed.

    With `resume`, an image that another run has made meanwhile is yielded. Raises OutputError where
    it is another image, or where a seed or a name was asked for.
    """
    request, left = setup.request, []
    for image in images:
        path = image.planned.path
        if request.overwrite or not setup.layout.existing(path):
            left.append(image)
        elif not request.resume:
            left.append(_with_next_seed(setup, image))
        elif path.exists():
            yield keep_image(setup, image.planned)
        else:  # only the sheet of its steps, which an interrupted run has left
            left.append(image)
    return left


def _with_next_seed(setup: Setup, image: PreparedImage) -> PreparedImage:
    before = image.planned
    planned = setup.layout.plan_again(before, setup.paths)
    setup.paths.add(planned.path)
    setup.note(
        f"{shown(before.path)} was written by another run; seed {planned.seed} is used instead"
    )
    return replace(image, planned=planned, prompt=planned.task.prompt)
