"""What `cnctl generate` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnctl.commands.generate.record import ImageRecord

NAME = "{stem}{variant}-{seed}"
"""The names of images, unless the request gives others."""


@dataclass(frozen=True, kw_only=True)
class ControlSpec:
    """One `--cond`: a condition, where its hint comes from, how it acts. None: as for all.

    step_scales: a factor for each step; residual_scales: one for each of the 13 residuals.
    """

    condition: str
    source: Path | str | None = None
    """A file; or a folder, of which the file counts that is called as the image is."""
    ready: bool = False
    """The source holds hints, and not what they are to be detected in."""
    scale: float | None = None
    start: float | None = None
    end: float | None = None
    mode: str | None = None
    step_scales: tuple[float, ...] = ()
    residual_scales: tuple[float, ...] = ()
    region: Path | str | None = None
    """A mask of where it acts: white where it does, black where not."""


@dataclass(frozen=True)
class GenerateRequest:
    """Images to make: `count` of each input and prompt, under all controls at once."""

    controls: Sequence[ControlSpec | str] = ()
    """Text is read as `--cond` is: "canny", "canny:edges.png:0.8:0-0.6"."""
    images: Sequence[Path | str] = ()
    """What every control without a source of its own reads; may be empty if each has one."""
    prompt: str | Sequence[str] | None = None
    negative_prompt: str = ""
    added_prompt: str = ""
    """Added to each prompt."""
    prompt_mode: str | None = None
    """"none", "default", "automatic" or "user" (section 4.1); None is "user" where prompts are."""
    captioner: str | None = None
    """Of the automatic mode; see `open_captioner`."""
    ready_hint: bool = False
    """The sources are hints; nothing is detected."""
    options: Sequence[str] = ()
    """Detector options, "key=value"."""
    weights: Sequence[str] = ()
    """One per control, or none for those that the base or the condition brings."""
    loras: Sequence[str] = ()
    """LoRA for the base, FILE[:SCALE]."""
    embeddings: Sequence[str] = ()
    """Textual inversion, FILE or WORD=FILE."""
    image: Path | str | None = None
    """What to start from in place of noise alone; controls read it where there is no other."""
    mask: Path | str | None = None
    """White where the image may change; the rest of it is returned untouched."""
    strength: float | None = None
    """Share of the noise schedule that runs over the image; by default 0.8, and 1 with a mask."""
    base: str | None = None
    jobs: Path | str | None = None
    """A file with one JSON object per line in place of images; see `read_jobs`."""
    sweep: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Settings by name, and the values of each; every input is made at every point."""
    count: int = 1
    seed: int | None = None
    """Of the first image, the next ones follow; None takes the first from 0 whose file is free."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`GenerateSettings` by name; None for the default."""
    batch_size: int | None = None
    """Images denoised at once; None for 4, or for 1 with low_memory."""
    low_memory: bool = False
    """Networks wait on the host, large images are decoded in tiles; slower."""
    out: Path | str = Path("out")
    """A folder, or a .png where one image is made."""
    name: str = NAME
    """What images are called, of {stem}, {input}, {conditions}, {variant}, {prompt} and {seed}."""
    overwrite: bool = False
    resume: bool = False
    """Keep the images that are there already, if they were made by the same request."""
    save_steps: int | None = None
    """Steps between the pictures of X-steps.png, which shows what the run is heading for."""
    private: bool = False
    """Write no metadata into the images."""
    size: tuple[int, int] | None = None
    """(width, height) to generate at; None for what suits the image and the resolution."""
    device: str | None = None
    dtype: str | None = None
    called: str = ""
    """The {stem} of all images; "" for their source's name and the conditions."""
    in_batch: tuple[int, int] = (0, 1)
    """Place and size of the batch, of copies of itself, that a single image is made in: rounding
    differs between batch sizes."""
    origin: ImageRecord | None = None
    """The record of the image that this one repeats; what differs unasked is noted."""

    @property
    def at_once(self) -> int:
        """Images that are denoised at once."""
        if self.batch_size is not None:
            return self.batch_size
        return 1 if self.low_memory else 4
