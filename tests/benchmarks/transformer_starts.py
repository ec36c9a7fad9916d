"""What a fresh ControlNet for a transformer learns from each start, for all four families.

    python tests/benchmarks/transformer_starts.py [--steps 200] [--seeds 2] [--family SD3]

Networks of true structure and small width. The task is one of latents: two rectangles of fixed
classes on a ground, whose hint shows the same classes in other values. The base first learns such
latents without a hint. Each start changes nothing before the first step (equation 3). Printed are
gradient norms over the first steps, and the loss on held-out latents: with the base alone, then as
a ControlNet learns.
"""

import argparse
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from diffusers import (
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from torch import Tensor, nn

from cnctl.models.flux import controlnet as flux
from cnctl.models.qwen import controlnet as qwen
from cnctl.models.residuals import EncodedHint
from cnctl.models.sd3 import controlnet as sd3
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.packing import pack
from cnctl.models.transformer.starts import HINT_STARTS, ZERO
from cnctl.models.zimage import controlnet as zimage
from cnctl.models.zimage import predict as zimage_predict

HEADS, HEAD, TEXT, CHANNELS, SIDE, BATCH = 4, 16, 32, 16, 8, 4
AXES = (4, 6, 6)
CLASSES = 4
SHOWN = (0, 1, 2, 10)
"""Steps whose gradients are printed."""


class Case(NamedTuple):
    """One family: its transformer, a fresh ControlNet, and what is called what in both."""

    transformer: Callable[[], Any]
    build: Callable[..., Any]
    predict: Callable[..., Tensor]
    embedders: tuple[str, str]
    """What embeds latents in the base, and hints in the ControlNet."""
    entry: str
    """What starts from zero before the blocks."""
    links: tuple[str, ...]
    pack_hint: Callable[[Tensor], Tensor] = lambda hint: hint


def sd3_transformer() -> Any:
    return SD3Transformer2DModel(
        sample_size=SIDE, in_channels=CHANNELS, out_channels=CHANNELS, num_layers=4,
        attention_head_dim=HEAD, num_attention_heads=HEADS, joint_attention_dim=TEXT,
        caption_projection_dim=HEADS * HEAD, pooled_projection_dim=TEXT, qk_norm="rms_norm",
        pos_embed_max_size=SIDE,
    )  # fmt: skip


def flux_transformer() -> Any:
    return FluxTransformer2DModel(
        num_layers=4, num_single_layers=4, attention_head_dim=HEAD, num_attention_heads=HEADS,
        joint_attention_dim=TEXT, pooled_projection_dim=TEXT, axes_dims_rope=AXES,
    )  # fmt: skip


def zimage_transformer() -> Any:
    transformer = ZImageTransformer2DModel(
        dim=HEADS * HEAD, n_layers=8, n_heads=HEADS, n_kv_heads=HEADS, cap_feat_dim=TEXT,
        axes_dims=[*AXES], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    for token in (transformer.x_pad_token, transformer.cap_pad_token):
        nn.init.normal_(token)
    return transformer


def qwen_transformer() -> Any:
    return QwenImageTransformer2DModel(
        num_layers=4, attention_head_dim=HEAD, num_attention_heads=HEADS,
        joint_attention_dim=TEXT, axes_dims_rope=AXES,
    )  # fmt: skip


CASES = {
    "SD3": Case(
        sd3_transformer, sd3.build_controlnet, sd3.predict_velocity,
        ("pos_embed.proj", "pos_embed_input.proj"), "pos_embed_input.proj", ("controlnet_blocks",),
    ),
    "FLUX.1": Case(
        flux_transformer, flux.build_controlnet,
        flux.predict_velocity, ("x_embedder", "controlnet_x_embedder"), "controlnet_x_embedder",
        ("controlnet_blocks", "controlnet_single_blocks"), pack,
    ),
    "Z-Image": Case(
        zimage_transformer, zimage.build_controlnet,
        zimage_predict.predict_velocity, ("all_x_embedder", "control_all_x_embedder"),
        "control_layers.0.before_proj", ("after_proj",),
    ),
    "Qwen-Image": Case(
        qwen_transformer, qwen.build_controlnet,
        qwen.predict_velocity, ("img_in", "controlnet_x_embedder"), "controlnet_x_embedder",
        ("controlnet_blocks",), pack,
    ),
}  # fmt: skip


BASE = "base"


def start(case: Case, base: Any, name: str, *, seed: int) -> Any:
    """A fresh ControlNet whose links are zero.

    "base": what reads the hint starts from what reads latents in the base. The others: as cnctl has
    them.
    """
    fresh = case.build(base, layers=2, hint_start=ZERO if name == BASE else name, seed=seed)
    if name == BASE:
        entry, (theirs, own) = fresh.get_submodule(case.entry), case.embedders
        if own == case.entry:
            entry.load_state_dict(base.get_submodule(theirs).state_dict())
        else:  # embedded by the base's weights already, then projected
            nn.init.eye_(entry.weight)
    return fresh


STARTS = (*HINT_STARTS, BASE)


def draw(values: Tensor, hints: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Latents (B, C, h, w) with some noise, and their hints. values, hints: (CLASSES, C)."""
    labels = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.long)
    for label in labels:
        for _ in range(2):
            (top, left), size = torch.randint(0, SIDE - 3, (2,), generator=generator), 3
            rows, columns = torch.randint(size, SIDE, (2,), generator=generator)
            kind = torch.randint(1, CLASSES, (), generator=generator)
            label[top : top + rows, left : left + columns] = kind
    latents = values[labels].permute(0, 3, 1, 2)
    noise = 0.1 * torch.randn(latents.shape, generator=generator)
    return latents + noise, hints[labels].permute(0, 3, 1, 2)


class Task:
    """Batches of one seed for one family, and the loss of equation 10 on them."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.generator = case, torch.Generator().manual_seed(seed)
        self.values, self.hints = torch.randn(2, CLASSES, CHANNELS, generator=self.generator)
        tokens = torch.randn(1, 8, TEXT, generator=self.generator)
        pooled = torch.randn(1, TEXT, generator=self.generator)
        mask = torch.ones(1, 8, dtype=torch.bool)
        self.text = TextFeatures(
            tokens.expand(BATCH, -1, -1),
            pooled=pooled.expand(BATCH, -1),
            mask=mask.expand(BATCH, -1),
        )
        self.held_out = [self.batch() for _ in range(4)]

    def batch(self) -> tuple[Tensor, ...]:
        """Latents, hints, noise and times."""
        latents, hints = draw(self.values, self.hints, self.generator)
        noise = torch.randn(latents.shape, generator=self.generator)
        return latents, hints, noise, torch.rand(BATCH, generator=self.generator)

    def loss(self, base: Any, network: Any, batch: tuple[Tensor, ...]) -> Tensor:
        latents, hints, noise, time = batch
        sigma = time[:, None, None, None]
        noisy, residuals = (1 - sigma) * latents + sigma * noise, None
        if network is not None:
            hint = EncodedHint(self.case.pack_hint(hints))
            own = SimpleNamespace(denoiser=base, dtype=torch.float32)
            residuals = network.residuals(own, noisy, 1000 * time, self.text, hint)
        found = self.case.predict(base, noisy, 1000 * time, self.text, residuals)
        return ((found - (noise - latents)) ** 2).mean()

    @torch.no_grad()
    def score(self, base: Any, network: Any) -> float:
        """The mean loss on what is held out."""
        losses = [float(self.loss(base, network, batch)) for batch in self.held_out]
        return sum(losses) / len(losses)


def trained(task: Task, base: Any, network: Any, steps: int, rate: float) -> Iterator[int]:
    """Train the network, or the base where there is none; each step before it is taken."""
    module = base if network is None else network
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate)
    for step in range(steps):
        optimizer.zero_grad()
        task.loss(base, network, task.batch()).backward()
        yield step
        optimizer.step()


def norms(case: Case, network: Any) -> str:
    """Of the gradients of what reads the hint, of copied blocks, of links."""
    groups = {"hint": 0.0, "blocks": 0.0, "links": 0.0}
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            hint = name.startswith((case.entry, case.embedders[1]))
            linked = any(link in name for link in case.links)
            group = "hint" if hint else "links" if linked else "blocks"
            groups[group] += float(parameter.grad.square().sum())
    return " ".join(f"{value**0.5:.1e}" for value in groups.values())


def compare(family: str, arguments: argparse.Namespace) -> None:
    """Print a family's table."""
    case = CASES[family]
    print(f"\n{family}: gradient norms of hint, blocks, links at steps {SHOWN}")
    scores: dict[str, list[list[float]]] = {name: [] for name in STARTS}
    for seed in range(arguments.seeds):
        torch.manual_seed(seed)
        task, base = Task(case, seed), case.transformer()
        for _ in trained(task, base, None, arguments.base_steps, 2e-3):
            pass
        base.requires_grad_(False)
        state = task.generator.get_state()
        for name in STARTS:
            task.generator.set_state(state)
            network = start(case, base, name, seed=seed)
            assert task.score(base, network) == task.score(base, None)  # equation 3
            seen = [task.score(base, None)]
            shown = []
            for step in trained(task, base, network, arguments.steps, arguments.rate):
                if step in SHOWN:
                    shown.append(norms(case, network))
                if step + 1 in arguments.at:
                    seen.append(task.score(base, network))
            scores[name].append([*seen, task.score(base, network)])
            if seed == 0:
                print(f"{name:>10}  " + " | ".join(shown), flush=True)
    print(f"loss on held-out latents at steps 0, {arguments.at} and {arguments.steps}")
    for name, runs in scores.items():
        means = torch.tensor(runs).mean(0).tolist()
        ends = ", ".join(f"{run[-1]:.3f}" for run in runs)
        print(f"{name:>10} ", *(f"{mean:.3f}" for mean in means), f" ({ends})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="of each ControlNet")
    parser.add_argument("--base-steps", type=int, default=300, help="of each base")
    parser.add_argument("--rate", type=float, default=5e-4, help="learning rate")
    parser.add_argument("--seeds", type=int, default=2, help="bases for each family")
    parser.add_argument("--family", choices=CASES, action="append", help="default: all")
    arguments = parser.parse_args()
    arguments.at = [step for step in (5, 20, 50) if step < arguments.steps]
    torch.set_num_threads(1)
    for family in arguments.family or CASES:
        compare(family, arguments)


if __name__ == "__main__":
    main()
