"""What `cnctl generate` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cnctl.commands.shared import flags
from cnctl.settings.common import BaseName
from cnctl.settings.declaration import Declared, Flag, at_least, at_most, more_than, one_of

if TYPE_CHECKING:
    from cnctl.commands.generate.record import ImageRecord
else:
    ImageRecord = Any  # its module needs numpy

NAME = "{stem}{variant}-{seed}"
PROMPT_MODES = ("none", "default", "automatic", "user")


@dataclass(frozen=True, kw_only=True)
class ControlSpec:
    """One `--cond`: a condition, where its hint comes from, how it acts. None: as for all.

    step_scales: a factor for each step; residual_scales: one for each residual. A U-Net
    has one for each skip, from the top, then the middle block's (13 in SD 1.x); a transformer one
    for each block of the ControlNet.
    """

    condition: str
    source: Path | str | None = None
    """A file; or a folder that holds a file with the name of each image."""
    ready: bool = False
    """The source holds hints; nothing is detected."""
    scale: float | None = None
    start: float | None = None
    end: float | None = None
    mode: str | None = None
    step_scales: tuple[float, ...] = ()
    residual_scales: tuple[float, ...] = ()
    region: Path | str | None = None
    """A mask of where it acts: white where it does, black where not."""


@dataclass(frozen=True)
class GenerateRequest(Declared):
    """Images to make: `count` of each input and prompt, under all controls at once."""

    controls: Sequence[ControlSpec | str] = ()
    """Text is read as `--cond` is: "canny", "canny:edges.png:0.8:0-0.6"."""
    images: Sequence[Path | str] = ()
    """Read by every control without its own source; may be empty if each has one."""
    prompt: Annotated[str | Sequence[str] | None, Flag("What to show.", ("--prompt", "-p"))] = None
    negative_prompt: flags.NegativePrompt = ""
    added_prompt: Annotated[str, Flag("What to add to each prompt.")] = ""
    prompt_mode: Annotated[
        str | None,
        Flag("Which prompts are used (paper, section 4.1).", default="user if there are prompts"),
        one_of(*PROMPT_MODES),
    ] = None
    captioner: Annotated[
        str | None,
        Flag("For the automatic mode: folder or cached hub id.", default="the base's, BLIP"),
    ] = None
    ready_hint: Annotated[bool, Flag("The inputs are hints already.", ("--hint",))] = False
    options: flags.DetectorOptions = ()
    weights: Annotated[
        Sequence[str],
        Flag(
            "ControlNet: folder, run of train, file, cached hub id or short name.", ("--control",)
        ),
    ] = ()
    """One per control, or none for those that the base or the condition brings."""
    configs: Annotated[
        Sequence[Path | str],
        Flag(
            "config.json of a ControlNet whose file has none; one per --cond.",
            ("--config",),
            metavar="FILE",
        ),
    ] = ()
    """One per control, "" for none."""
    loras: Annotated[
        Sequence[str],
        Flag("LoRA for the base; repeat for more.", ("--lora",), metavar="FILE[:SCALE]"),
    ] = ()
    embeddings: Annotated[
        Sequence[str],
        Flag("Textual inversion; repeat for more.", ("--embedding",), metavar="[WORD=]FILE"),
    ] = ()
    image: Annotated[Path | str | None, Flag("Image to start from, and to edit.")] = None
    """The image to start from, not from noise alone; controls read it if `images` is empty."""
    mask: Annotated[Path | str | None, Flag("White where the image may change.")] = None
    """The rest of it is returned untouched."""
    strength: Annotated[
        float | None,
        Flag("Share of the noise schedule added to the image.", default="0.8; 1 with a mask"),
        more_than(0),
        at_most(1),
    ] = None
    base: BaseName = None
    jobs: Annotated[
        Path | str | None,
        Flag("One JSON object per line: image, prompt, seed ...; - for stdin.", metavar="JSONL"),
    ] = None
    """In place of images; see `read_jobs`. The command line does those of "-" as they come."""
    sweep: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Settings by name, and the values of each; every input is made at every point."""
    count: Annotated[int, Flag("Images per input.", ("--count", "-n")), at_least(1)] = 1
    seed: Annotated[
        int | None, Flag("Seed of the first image.", default="the first unused"), at_least(0)
    ] = None
    """The next ones follow; None takes the first from 0 whose file is free."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`GenerateSettings` by name; None for the default."""
    batch_size: flags.BatchSize = None
    low_memory: flags.LowMemory = False
    quantize: flags.Quantize = None
    out: Annotated[
        Path | str, Flag("Folder; or a .png or - (stdout) for one.", ("--out", "-o"))
    ] = Path("out")
    """The command line writes the image of "-" to standard output."""
    name: Annotated[str, Flag("Pattern of image names.")] = NAME
    """A pattern of {stem}, {input}, {conditions}, {variant}, {prompt} and {seed}."""
    save_steps: Annotated[
        int | None,
        Flag("Also write X-steps.png: the estimate every N steps.", metavar="N"),
        at_least(1),
    ] = None
    resume: flags.Resume = False
    """Only images that were made by the same request."""
    overwrite: flags.Overwrite = False
    private: Annotated[
        bool, Flag("Do not record in images how they were made.", ("--no-metadata",))
    ] = False
    size: tuple[int, int] | None = None
    """(width, height) to generate at; None for what suits the image and the resolution."""
    device: flags.Device = None
    dtype: flags.Dtype = None
    threads: Annotated[
        int | None,
        Flag("Threads of the CPU for a batch.", default="by the work, or as with --from"),
        at_least(1),
    ] = None
    """On which the last bits of an image depend, see `choose_threads`."""
    compile: Annotated[
        bool, Flag("Compile the networks' blocks: for many images on a GPU; needs a compiler.")
    ] = False
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
