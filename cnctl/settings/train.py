"""Settings of `cnctl train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cnctl.settings.declaration import (
    Declared,
    Flag,
    at_least,
    at_most,
    less_than,
    matches,
    more_than,
    one_of,
)

ON_CONVERGENCE = r"continue|stop|accumulate=([2-9]|[1-9]\d{1,3})"
"""What a run may do when control has set in, as a regular expression."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Declared):
    """One training run. Defaults are the paper's (sections 3.3 and 4.3) where it states them."""

    SECTION: ClassVar[str] = "train"

    steps: Annotated[int, Flag("Optimizer steps.", default="{}, or by base"), at_least(1)] = 10_000
    batch_size: Annotated[
        int, Flag("Examples per batch, on each device.", default="{}, or by base"), at_least(1)
    ] = 4
    gradient_accumulation: Annotated[
        int, Flag("Batches per step, whose gradients are averaged."), at_least(1)
    ] = 1
    num_processes: Annotated[
        int,
        Flag("Processes to start, each on its own device.", metavar="N"),
        at_least(1),
    ] = 1
    optimizer: Annotated[
        str, Flag("Optimizer; adamw8bit needs bitsandbytes."), one_of("adamw", "adamw8bit")
    ] = "adamw"
    learning_rate: Annotated[
        float,
        Flag("Learning rate of the optimizer.", default="{}, or by base or condition"),
        more_than(0),
        less_than(1),
    ] = 1e-5
    lr_warmup: Annotated[int, Flag("Steps in which the learning rate rises."), at_least(0)] = 0
    lr_schedule: Annotated[
        str, Flag("Learning rate after warm-up; cosine falls to 0."), one_of("constant", "cosine")
    ] = "constant"
    max_grad_norm: Annotated[
        float, Flag("Clip the gradient to this norm.", default="{}, never; or by base"), at_least(0)
    ] = 0.0
    ema: Annotated[
        float,
        Flag("Show and export averaged weights.", metavar="DECAY", default="{}, none; or by base"),
        at_least(0),
        less_than(1),
    ] = 0.0
    prompt_dropout: Annotated[
        float,
        Flag("Share of prompts left empty.", default="{}, or by base or condition"),
        at_least(0),
        at_most(1),
    ] = 0.5
    snr_gamma: Annotated[
        float, Flag("Min-SNR weighting of the loss.", default="{}, none; or by base"), at_least(0)
    ] = 0.0
    noise_offset: Annotated[
        float,
        Flag(
            "Share of noise that is equal at all positions of a channel, so that hints decide "
            "colours.",
            default="{}, none; or by base",
        ),
        at_least(0),
        at_most(1),
    ] = 0.0
    timestep_density: Annotated[
        str,
        Flag("How timesteps are drawn.", default="{}, or by base"),
        one_of("uniform", "logit_normal", "mode"),
    ] = "uniform"
    timestep_weights: Annotated[
        str,
        Flag("How timesteps count in the loss of a flow.", default="{}, alike"),
        one_of("none", "cosmap", "sigma_sqrt"),
    ] = "none"
    resolution: Annotated[
        int,
        Flag("Side in pixels of the square that images are cropped to.", default="the base's own"),
        at_least(1),
    ] = 512
    buckets: Annotated[bool, Flag("Keep aspect ratios: many sizes of one area.")] = False
    random_crop: Annotated[bool, Flag("Crop images and hints at a random place.")] = False
    flip: Annotated[bool, Flag("Mirror half of the images and their hints.")] = False
    seed: Annotated[int, Flag("Seed of everything random."), at_least(0), less_than(2**63)] = 0
    method: Annotated[
        str,
        Flag("What to train; input-concat is the paper's ablation (figure 20)."),
        one_of("controlnet", "input-concat"),
    ] = "controlnet"
    connect: Annotated[
        str, Flag("Residuals that reach the base (paper, section 3.4)."), one_of("all", "middle")
    ] = "all"
    hint_encoder: Annotated[str, Flag("Form of the hint encoder.", metavar="released|paper")] = (
        "released"
    )
    hint_start: Annotated[
        str, Flag("Initial weights of the hint encoder.", metavar="gaussian|torch|zero")
    ] = "gaussian"
    layers: Annotated[
        int,
        Flag("Blocks of a transformer that are copied.", metavar="N", default="{}, half of them"),
        at_least(0),
    ] = 0
    lora: Annotated[
        int,
        Flag("Train a Control-LoRA of this rank.", metavar="RANK", default="{}, the copy itself"),
        at_least(0),
    ] = 0
    unfreeze_after: Annotated[
        int,
        Flag(
            "Steps after which the base is trained too (paper, section 3.4).",
            default="{}, never",
            former="unlock_after",
        ),
        at_least(0),
    ] = 0
    unfreeze: Annotated[
        str, Flag("Part of the base that is then trained.", metavar="decoder|all", former="unlock")
    ] = "decoder"
    checkpoint_every: Annotated[int, Flag("Steps between checkpoints."), at_least(1)] = 500
    preview_every: Annotated[
        int, Flag("Steps between previews with their scores; 0 for none."), at_least(0)
    ] = 100
    preview_steps: Annotated[int, Flag("Denoising steps of a preview."), at_least(1)] = 20
    on_convergence: Annotated[
        str,
        Flag("What to do when control has set in: accumulate=N uses N times the batch."),
        matches(
            ON_CONVERGENCE,
            "continue, stop, or accumulate=N with N of at least 2",
            metavar="continue|stop|accumulate=N",
        ),
    ] = "continue"
    tracker: Annotated[
        str, Flag("Tracker of accelerate: tensorboard, wandb, trackio, ...", default="none")
    ] = ""
    largest: Annotated[
        int,
        Flag(
            "Only the N examples with the most pixels.",
            metavar="N",
            default="{}, all",
        ),
        at_least(0),
    ] = 0
    sample: Annotated[
        int, Flag("Only N examples, drawn by --seed.", metavar="N", default="{}, all"), at_least(0)
    ] = 0
    held_out: Annotated[
        int, Flag("Examples kept for measuring, not for training."), at_least(0)
    ] = 16
    gradient_checkpointing: Annotated[bool, Flag("Save memory for a quarter more work.")] = False
    channels_last: Annotated[bool, Flag("Use the memory layout that tensor cores prefer.")] = False
    compile: Annotated[bool, Flag("Use torch.compile; needs a compiler.")] = False
    workers: Annotated[int, Flag("Processes that read data."), at_least(0)] = 0

    @property
    def effective_batch(self) -> int:
        """Examples per optimizer step."""
        return self.batch_size * self.gradient_accumulation * self.num_processes
