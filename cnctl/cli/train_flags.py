"""The flags of `cnctl train` that no other command has, each spelt and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from cnctl.cli.report import complete_condition

Condition = Annotated[
    str | None,
    Option(
        "--cond",
        metavar="NAME",
        help="Condition; cnctl conditions lists them.",
        autocompletion=complete_condition,
    ),
]
Data = Annotated[
    str | None,
    Option(
        metavar="DIR|SHARDS|scenes:N",
        help="Folder with metadata.jsonl, .csv or prompt.json, 'x/*.tar' here or at a URL, or N "
        "drawn scenes.",
    ),
]
Largest = Annotated[
    int | None, Option(metavar="N", help="Only the N examples with the most pixels. [all]")
]
Sample = Annotated[int | None, Option(metavar="N", help="Only N of them, drawn by --seed. [all]")]
Out = Annotated[Path, Option("--out", "-o", help="Folder of the run.")]
Steps = Annotated[int | None, Option(help="Optimizer steps. [by base]")]
BatchSize = Annotated[int | None, Option(help="Examples at once, on each device. [by base]")]
LearningRate = Annotated[float | None, Option(help="Of AdamW. [paper: 1e-5; tiny has its own]")]
GradientAccumulation = Annotated[
    int | None, Option(help="Batches per step, their gradients averaged. [1]")
]
NumProcesses = Annotated[
    int | None, Option(metavar="N", help="Start so many processes, a device for each. [1]")
]
Optimizer = Annotated[
    str | None,
    Option(metavar="adamw|adamw8bit", help="8 bits need bitsandbytes. [adamw]"),
]
GradientCheckpointing = Annotated[
    bool | None, Option(help="Less memory for a quarter more work.", show_default=False)
]
ChannelsLast = Annotated[
    bool | None, Option(help="The layout that tensor cores prefer.", show_default=False)
]
Compile = Annotated[
    bool | None, Option(help="Use torch.compile; needs a compiler.", show_default=False)
]
LrWarmup = Annotated[int | None, Option(help="Steps in which the learning rate rises. [0]")]
LrSchedule = Annotated[
    str | None,
    Option(metavar="constant|cosine", help="Of the learning rate after that. [constant]"),
]
MaxGradNorm = Annotated[
    float | None, Option(help="Clip the gradient to this norm. [0, never; or by base]")
]
Ema = Annotated[
    float | None,
    Option(metavar="DECAY", help="Show and export averaged weights. [0, none; or by base]"),
]
SnrGamma = Annotated[float | None, Option(help="Min-SNR weighting of the loss. [0, none; tiny: 5]")]
PromptDropout = Annotated[float | None, Option(help="Share of prompts left empty. [paper: 0.5]")]
Resolution = Annotated[
    int | None, Option(help="Side in pixels of the square that images are cut to. [by base]")
]
Buckets = Annotated[
    bool | None, Option(help="Keep aspects: many sizes of one area.", show_default=False)
]
RandomCrop = Annotated[
    bool | None, Option(help="Cut images at a random place.", show_default=False)
]
Flip = Annotated[bool | None, Option(help="Mirror half of images and hints.", show_default=False)]
Seed = Annotated[int | None, Option(help="Of all that is random. [0]")]
Method = Annotated[
    str | None,
    Option(
        metavar="controlnet|input-concat",
        help="What is trained; the second is figure 20's ablation. [controlnet]",
    ),
]
Connect = Annotated[str | None, Option(metavar="all|middle", help="Links to the base. [all]")]
HintEncoder = Annotated[
    str | None, Option(metavar="released|paper", help="Form of the hint encoder. [released]")
]
HintStart = Annotated[
    str | None,
    Option(metavar="gaussian|torch", help="What its weights start from. [gaussian]"),
]
Lora = Annotated[
    int | None, Option(metavar="RANK", help="Train a Control-LoRA of this rank. [0, the copy]")
]
UnlockAfter = Annotated[
    int | None, Option(help="Steps after which the base learns along. [0, never]")
]
Unlock = Annotated[
    str | None, Option(metavar="decoder|all", help="What of the base then learns. [decoder]")
]
InitFrom = Annotated[
    str | None, Option(metavar="WEIGHTS", help="ControlNet to start from. [the base]")
]
CheckpointEvery = Annotated[int | None, Option(help="Steps between checkpoints. [500]")]
PreviewEvery = Annotated[
    int | None, Option(help="Steps between pictures and scores; 0 for none. [100]")
]
OnConvergence = Annotated[
    str | None,
    Option(
        metavar="continue|stop|accumulate=N",
        help="When control has set in; N batches to a step for one before. [continue]",
    ),
]
Tracker = Annotated[
    str | None, Option(help="tensorboard, wandb, trackio, ... by accelerate. [none]")
]
HeldOut = Annotated[int | None, Option(help="Examples to measure with, not to train on. [16]")]
Cache = Annotated[
    Path | None,
    Option(metavar="DIR", help="Keep encoded images and prompts there, for later epochs and runs."),
]
Workers = Annotated[int | None, Option(help="Processes that read data. [0]")]
Resume = Annotated[
    bool, Option("--resume", help="Go on from the newest checkpoint, if there is one.")
]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be trained, and stop.")]
Check = Annotated[bool, Option("--check", help="Look at every example, and stop.")]
