"""Train the text encoder as CLIP's was: against pictures, then freeze it.

Beside CLIP's contrastive loss, linear probes on single hidden states name what is in the scene, so
that every state after the prompt's end carries class and colour: the U-Net attends to all of them.
"""

import json
import random
import string
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cnctl.tiny.captions import PLACES
from cnctl.tiny.pictures import to_tensor
from cnctl.tiny.scenes import HELD_OUT, Scene, render_scene
from cnctl.tiny.shapes import CLASSES, COLOURS
from examples.tiny.dataset import LEVELS
from examples.tiny.optim import cosine, set_rates
from examples.tiny.tokenizer import MAX_LENGTH, build_tokenizer

THUMBNAIL = 32
BATCH = 192
TEXT_STREAM = 1_000_000  # first seed of the text encoder's scenes
KINDS_OF_BACKDROP = ("plain", "gradient", *PLACES)
SPAN = (len(CLASSES), len(CLASSES) * len(COLOURS), len(KINDS_OF_BACKDROP), len(COLOURS))


@dataclass(frozen=True)
class Examples:
    """Thumbnails uint8 (N, 32, 32, 3), prompts, what they show: float32 (N, sum(SPAN))."""

    thumbnails: NDArray[np.uint8]
    prompts: list[str]
    attributes: Tensor


class Judge(nn.Module):
    """What is thrown away after training: the picture encoder, projections and probes."""

    def __init__(self, width: int, *, joint: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, wider in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(channels, wider, 3, 2, 1), nn.GroupNorm(8, wider), nn.SiLU()]
        self.picture = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, joint))
        self.text = nn.Linear(width, joint)
        self.probe = nn.Linear(width, sum(SPAN))
        self.scale = nn.Parameter(torch.tensor(2.5))

    def contrast(self, pictures: Tensor, states: Tensor) -> Tensor:
        """CLIP's symmetric loss; pictures (N, 3, 32, 32), states (N, width)."""
        left = F.normalize(self.picture(pictures), dim=-1)
        right = F.normalize(self.text(states), dim=-1)
        logits = self.scale.exp().clamp(max=50) * left @ right.T
        target = torch.arange(len(logits))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train_text(
    *, minutes: float, out: Path, scenes: int = 24000, say: Callable[[str], None] = print
) -> CLIPTextModel:
    """Train a fresh text encoder and tokenizer and save both under `out`."""
    torch.manual_seed(0)
    rng = random.Random(0)
    tokenizer = build_tokenizer(out / "tokenizer")
    model = fresh_text_encoder(tokenizer).train()
    judge = Judge(model.config.hidden_size).train()
    examples, held_out = make_examples(TEXT_STREAM, scenes), make_examples(HELD_OUT, 600)
    parameters = [*model.parameters(), *judge.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    began, step, mark = time.monotonic(), 0, 30.0
    while (spent := time.monotonic() - began) < minutes * 60:
        set_rates([optimizer], cosine(spent / (minutes * 60), step=step, warm_up=50))
        loss = text_loss(model, judge, tokenizer, examples, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if spent > mark:
            mark += 30
            say(f"step {step} loss {loss.item():.3f}")
    model.eval().half().save_pretrained(out / "text_encoder")
    scores = probe_scores(model.float(), tokenizer, examples, held_out)
    say(json.dumps({"steps": step, "samples": step * BATCH} | scores))
    return model


def fresh_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text transformer at a small size."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            projection_dim=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_examples(first: int, count: int) -> Examples:
    """Examples of seeds [first, first + count), drawn small."""
    scenes = [
        render_scene(seed, size=THUMBNAIL, level=LEVELS[seed % len(LEVELS)])
        for seed in range(first, first + count)
    ]
    thumbnails = np.stack([scene.image for scene in scenes])
    attributes = torch.stack([scene_attributes(scene) for scene in scenes])
    return Examples(thumbnails, [scene.prompt for scene in scenes], attributes)


def scene_attributes(scene: Scene) -> Tensor:
    """0 or 1 for each class, each class in each colour, kind of backdrop, colour of backdrop."""
    classes, pairs, kinds, colours = (torch.zeros(size) for size in SPAN)
    words = list(COLOURS)
    for thing in scene.objects:
        index = CLASSES.index(thing.name)
        classes[index] = 1
        pairs[index * len(words) + words.index(thing.colour)] = 1
    kinds[KINDS_OF_BACKDROP.index(scene.backdrop.kind)] = 1
    if scene.backdrop.kind in ("plain", "gradient", "room"):
        colours[words.index(scene.backdrop.colours[0])] = 1
    return torch.cat([classes, pairs, kinds, colours])


def text_loss(
    model: CLIPTextModel,
    judge: Judge,
    tokenizer: CLIPTokenizer,
    examples: Examples,
    rng: random.Random,
) -> Tensor:
    """Contrast at the prompt's end and at a random state after it, and the probes at both."""
    indices = rng.sample(range(len(examples.prompts)), BATCH)
    prompts = [with_noise(examples.prompts[i], rng) for i in indices]
    ids = token_ids(tokenizer, prompts)
    states = model(input_ids=ids).last_hidden_state
    ends = (ids == tokenizer.eos_token_id).int().argmax(1)
    later = torch.tensor([rng.randint(int(end), MAX_LENGTH - 1) for end in ends])
    pictures, rows = to_tensor(examples.thumbnails[indices]), torch.arange(BATCH)
    loss = states.new_zeros(())
    for position in (ends, later):
        state = states[rows, position]
        named = F.binary_cross_entropy_with_logits(judge.probe(state), examples.attributes[indices])
        loss = loss + judge.contrast(pictures, state) + 20 * named
    return loss / 2


def with_noise(prompt: str, rng: random.Random) -> str:
    """Sometimes the prompt with a word that means nothing, a style word or a comma put in."""
    if rng.random() > 0.2:
        return prompt
    words = prompt.split()
    letters = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 7)))
    extra = rng.choice([letters, ",", "best quality", "detailed", "cute", "photo", "icon", "my"])
    words.insert(rng.choice([0, len(words)]), extra)
    return " ".join(words)


def token_ids(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Token ids (N, 32) as the pipelines make them."""
    batch = tokenizer(prompts, padding="max_length", truncation=True, max_length=MAX_LENGTH)
    return torch.tensor(batch.input_ids)


@torch.no_grad()
def probe_scores(
    model: CLIPTextModel, tokenizer: CLIPTokenizer, examples: Examples, held_out: Examples
) -> dict[str, float]:
    """How often a ridge regression on the state at the end names the class of one-thing scenes."""
    model.eval()
    sets = []
    for source in (examples, held_out):
        count = min(6000, len(source.prompts))
        single = [i for i in range(count) if source.attributes[i, : SPAN[0]].sum() == 1]
        ids = token_ids(tokenizer, [source.prompts[i] for i in single])
        states = torch.cat([model(input_ids=part).last_hidden_state for part in ids.split(500)])
        sets.append((states, source.attributes[single]))
    (train_states, train_truth), (states, truth) = sets
    kinds = slice(0, SPAN[0])
    scores = {}
    for name, position in (("last", -1), ("middle", 20)):
        features = F.pad(train_states[:, position], (0, 1), value=1.0)
        gram = features.T @ features + 1e-2 * torch.eye(features.shape[1])
        weights = torch.linalg.solve(gram, features.T @ train_truth[:, kinds])
        guess = (F.pad(states[:, position], (0, 1), value=1.0) @ weights).argmax(1)
        right = (guess == truth[:, kinds].argmax(1)).float().mean()
        scores[f"class_from_{name}_state"] = round(float(right), 4)
    return scores
