"""The flags of `cnctl convert` that no other command has, each spelt and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SRC...",
        show_default=False,
        help="A diffusers folder, a .safetensors, .pth or .ckpt, a run, or a hub id. "
        "Several are averaged.",
    ),
]
Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="DST", show_default=False, help="A folder, or a file that ends in .safetensors."
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="FORM",
        help="diffusers, original (control_model. before each key), bare (no prefix), "
        "control-lora. [original for a file, diffusers for a folder]",
    ),
]
Dtype = Annotated[str | None, typer.Option(help="float16, bfloat16, float32. [the source's own]")]
Config = Annotated[
    Path | None,
    typer.Option(help="config.json to take the number of heads from, if SRC has none."),
]
Base = Annotated[
    str | None,
    typer.Option(
        help="Base that completes a difference file or a Control-LoRA, or that a full "
        "checkpoint began from: what its U-Net learnt along is kept in a folder as DST."
    ),
]
FromBase = Annotated[str | None, typer.Option(help="Base that SRC was trained on, with --to-base.")]
ToBase = Annotated[
    str | None, typer.Option(help="Base that DST is to fit: adds what differs to the copy.")
]
Shares = Annotated[
    str | None, typer.Option(metavar="0.7,0.3", help="Of each SRC in the average. [alike]")
]
Rank = Annotated[int | None, typer.Option(help="Of --to control-lora, which needs --base. [128]")]
InitFromBase = Annotated[
    str | None,
    typer.Option(metavar="BASE", help="Instead of SRC: an untrained ControlNet for a base."),
]
HintChannels = Annotated[int | None, typer.Option(help="Of an untrained ControlNet. [3]")]
HintEncoder = Annotated[
    str | None, typer.Option(help="Of an untrained ControlNet: released, paper. [released]")
]
Seed = Annotated[int | None, typer.Option(help="Of an untrained hint encoder. [0]")]
Condition = Annotated[
    str, typer.Option("--cond", help="Written down, if SRC does not say its own.")
]
Verify = Annotated[bool, typer.Option("--verify", help="Run both on random input and compare.")]
