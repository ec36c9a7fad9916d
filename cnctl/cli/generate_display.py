"""What the terminal shows of a run of cnctl generate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from cnctl.cli.report import Advance, draw, note

if TYPE_CHECKING:
    import numpy as np

    from cnctl.commands.generate.events import Event
    from cnctl.commands.shared.events import FailedImage

PREVIEW_COLUMNS = 64


@dataclass
class GenerateDisplay:
    """Shows the events of a run, and collects what failed."""

    advance: Advance
    preview: bool
    quiet: bool
    failed: list[FailedImage] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        from cnctl.commands.generate.events import FailedImage, Loading, Note, Preview, Stage

        match event:
            case Note(text):
                note(text, quiet=self.quiet)
            case Loading():
                self.advance(event.percent, event.text, label="loading")
            case Stage(what, done, total):
                self.advance(round(100 * done / total), event.count, label=what)
            case Preview(_, images) if self.preview:
                draw_images([*images])
            case FailedImage(error=error):
                self.failed.append(event)
                note(f"cnctl: {error}")


def draw_images(images: Sequence[np.ndarray]) -> None:
    """Show images of one size side by side in the terminal."""
    import numpy as np

    from cnctl.images import draw as drawn

    columns = min(PREVIEW_COLUMNS * len(images), get_terminal_size().columns)
    draw(drawn(np.concatenate(images, axis=1), columns=columns))
