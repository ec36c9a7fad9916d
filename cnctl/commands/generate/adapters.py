"""What is added to a base before it generates: LoRA and textual inversion."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base
from cnctl.models.unet.checkpoint.lora import LoraLayer, read_lora
from cnctl.models.unet.checkpoint.textual_inversion import read_embedding
from cnctl.models.unet.textual_inversion import add_embedding
from cnctl.models.unet.unfreeze import add_delta
from cnctl.tensorfiles.digest import known_sha256


def check_additions(loras: Sequence[str], embeddings: Sequence[str]) -> None:
    """Raise MissingError for what is not there, before anything slow happens."""
    for path, _ in (*map(parse_lora, loras), *map(parse_embedding, embeddings)):
        if not path.is_file():
            raise MissingError(f"there is no file {path}", hint="give a LoRA's or embedding's file")


def add_to_base(base: Base, loras: Sequence[str], embeddings: Sequence[str]) -> dict[str, Any]:
    """Change the base in memory. Returns what an image's record says of it, {} for nothing.

    loras: FILE[:SCALE]; embeddings: FILE or WORD=FILE.
    """
    added = {
        "loras": [_add_lora(base, *parse_lora(text)) for text in loras],
        "embeddings": [_add_embedding(base, *parse_embedding(text)) for text in embeddings],
    }
    return {kind: records for kind, records in added.items() if records}


def parse_lora(text: str) -> tuple[Path, float]:
    """FILE[:SCALE] to both; 1 is all of it."""
    name, colon, scale = text.rpartition(":")
    if not colon or Path(text).is_file():
        return Path(text).expanduser(), 1.0
    try:
        return Path(name).expanduser(), float(scale)
    except ValueError:
        return Path(text).expanduser(), 1.0


def parse_embedding(text: str) -> tuple[Path, str]:
    """FILE or WORD=FILE to the file and the word, "" for none."""
    word, equals, name = text.partition("=")
    if not equals or Path(text).is_file():
        return Path(text).expanduser(), ""
    return Path(name).expanduser(), word


def _add_lora(base: Base, path: Path, scale: float) -> dict[str, Any]:
    layers: dict[str, list[LoraLayer]] = defaultdict(list)
    for layer in read_lora(path, _shapes(base)):
        layers[layer.part].append(layer)
    for part, own in layers.items():
        add_delta(getattr(base, part), ((one.weight, scale * one.change()) for one in own))
    return {"name": path.name, "sha256": known_sha256(path), "scale": scale}


def _shapes(base: Base) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
    parts = ("unet", "text_encoder", "text_encoder_2")
    return {
        part: {name: tuple(p.shape) for name, p in module.named_parameters()}
        for part in parts
        if (module := getattr(base, part))
    }


def _add_embedding(base: Base, path: Path, word: str) -> dict[str, Any]:
    told, vectors = read_embedding(path)
    word = word or told or path.stem
    if not word.strip() or " " in word:
        raise CnctlError(f"{word!r} cannot be a word of a prompt", hint=f"give WORD={path}")
    add_embedding(base, word, vectors)
    return {"name": path.name, "sha256": known_sha256(path), "word": word}
