"""The flags of `cnctl generate` that no other command has, each spelt and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

Prompt = Annotated[str | None, Option("--prompt", "-p", help="What to show.")]
NegativePrompt = Annotated[str, Option(help="What not to show.")]
Prompts = Annotated[
    str | None, Option("--prompts", metavar="FILE", help="Prompts, one per line; - for stdin.")
]
AddedPrompt = Annotated[str, Option(help="What to add to each prompt.")]
PromptMode = Annotated[str | None, Option(help="none, default, automatic or user (section 4.1).")]
Captioner = Annotated[
    str | None, Option(help="Of the automatic mode: folder or cached hub id. [the base's, BLIP]")
]
Loras = Annotated[
    list[str], Option("--lora", metavar="FILE[:SCALE]", help="LoRA for the base; repeat for more.")
]
Embeddings = Annotated[
    list[str],
    Option("--embedding", metavar="[WORD=]FILE", help="Textual inversion; repeat for more."),
]
ReadyHint = Annotated[bool, Option("--hint", help="The inputs are hints already.")]
Image = Annotated[Path | None, Option("--image", help="Image to start from, and to edit.")]
Mask = Annotated[Path | None, Option("--mask", help="White where the image may change.")]
Strength = Annotated[
    float | None, Option(help="Share of noise laid over the image. [0.8; 1 with a mask]")
]
Count = Annotated[int, Option("--count", "-n", help="Images per input.")]
Seed = Annotated[int | None, Option(help="Of the first image. [the first unused]")]
BatchSize = Annotated[
    int | None, Option(min=1, help="Images denoised at once. [4; 1 with --low-memory]")
]
LowMemory = Annotated[
    bool, Option("--low-memory", help="Networks wait on the host, large images come in tiles.")
]
Jobs = Annotated[
    Path | None, Option(metavar="JSONL", help="One JSON object per line: image, prompt, seed ...")
]
Sweep = Annotated[
    list[str], Option(metavar="NAME=A,B,...", help="Make all at each value of a setting.")
]
Name = Annotated[str, Option(help="What images are called.")]
Resume = Annotated[bool, Option("--resume", help="Keep images that are there already.")]
Grid = Annotated[bool, Option("--grid", help="Also a sheet: the hint, then its images.")]
Gallery = Annotated[Path | None, Option(metavar="HTML", help="Also a page with all images.")]
Preview = Annotated[bool, Option("--preview", help="Show the images in the terminal (stderr).")]
SaveSteps = Annotated[
    int | None,
    Option(metavar="N", min=1, help="Also X-steps.png: what is coming, every N steps."),
]
Out = Annotated[Path, Option("--out", "-o", help="Folder, or .png for one.")]

From = Annotated[
    Path | None, Option("--from", metavar="PNG", help="Make this image again; flags change it.")
]
NoMetadata = Annotated[bool, Option("--no-metadata", help="Do not say in images how to make them.")]

Steps = Annotated[int | None, Option(help="Denoising steps. [20]")]
GuidanceScale = Annotated[float | None, Option(help="Weight of the prompt. [9]")]
Region = Annotated[list[str], Option(metavar="MASK", help="White where control acts; likewise.")]
Resize = Annotated[
    str | None, Option(help="Hints of another aspect: stretch, crop or fill. [stretch]")
]
Size = Annotated[
    str | None, Option(metavar="WxH", help="Size in pixels. [the image's, by --resolution]")
]
Scheduler = Annotated[str | None, Option(help="ddim, or any of diffusers'.")]
Emphasis = Annotated[
    bool | None,
    Option(
        "--emphasis/--no-emphasis", help="Weigh (words) and (words:1.3) as web interfaces do. [no]"
    ),
]
ClipSkip = Annotated[
    int | None, Option(help="Layer of the text encoder that is read, from the end. [1]")
]

ControlScale = Annotated[float | None, Option(help="Strength of control. [1]")]
ControlStart = Annotated[float | None, Option(help="Fraction where it begins. [0]")]
ControlEnd = Annotated[float | None, Option(help="Fraction where it ends. [1]")]
ControlMode = Annotated[
    list[str],
    Option(metavar="MODE", help="balanced, prompt or control; once for all, or once per --cond."),
]
StepScales = Annotated[
    list[str], Option(metavar="1,0.5,...", help="Factor of control in each step; likewise.")
]
ResidualScales = Annotated[
    list[str], Option(metavar="1,0.5,...", help="Factor of each of 13 residuals; likewise.")
]
