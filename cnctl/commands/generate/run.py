"""`cnctl generate`: a hint (or an image to detect it in) and a prompt, to images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnctl.commands.generate.check import check_run
from cnctl.commands.generate.events import OnEvent
from cnctl.commands.generate.plan import plan_run
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.shared.events import ignore, notes
from cnctl.errors import SomeInputsFailed, counted

if TYPE_CHECKING:
    from cnctl.commands.generate.generated import GeneratedImage


def generate(
    request: GenerateRequest, *, on_event: OnEvent | None = None
) -> Iterator[GeneratedImage]:
    """Make the images that are asked for; yields each when it is written.

    Every input is checked before weights are loaded, and nothing is written before all is loaded.

    on_event: is called with a Note, with a Stage after each denoising step (done and total count
    the steps of all images), with a Preview where `save_steps` asks for it, and with a FailedImage
    for each input that cannot be used; the other inputs continue. Without on_event such a failure
    raises SomeInputsFailed at the end.
    """
    report = on_event or ignore
    checked = check_run(plan_run(request, notes(report)), report)
    # What follows imports torch, which takes seconds: a mistyped name is answered before.
    from cnctl.commands.generate.batches import make_images
    from cnctl.commands.generate.kept import kept_images
    from cnctl.commands.generate.setup import set_up

    setup = set_up(checked, report)
    yield from kept_images(setup)
    yield from make_images(setup, [planned for planned in setup.images if not planned.done])
    if on_event is None and (failed := setup.failures.failed):
        raise SomeInputsFailed(f"{counted(len(failed), 'input')} failed: {failed[0].error}")
