"""LoRA and textual inversion: what is loaded into a base before it generates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.commands.generate.record import EmbeddingRecord, LoraRecord
from cnctl.errors import CnctlError, MissingError
from cnctl.models.identify import check_role
from cnctl.models.signatures import EMBEDDING, LORA
from cnctl.tensorfiles.digest import known_sha256

if TYPE_CHECKING:
    from cnctl.models.base import Base


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """What was loaded into a base, as the records of its images have it."""

    loras: tuple[LoraRecord, ...]
    embeddings: tuple[EmbeddingRecord, ...]


def check_adapters(loras: Sequence[str], embeddings: Sequence[str]) -> None:
    """Raise before anything slow happens.

    MissingError for what is not there, CnctlError for what is neither a LoRA nor an embedding.
    """
    given = [(path, LORA) for path, _ in map(parse_lora, loras)]
    given += [(path, EMBEDDING) for path, _ in map(parse_embedding, embeddings)]
    for path, role in given:
        if not path.is_file():
            raise MissingError(f"there is no file {path}", hint="give a LoRA's or embedding's file")
        check_role(path, role)


def check_fit(outline: Base, loras: Sequence[str], embeddings: Sequence[str]) -> None:
    """Raise CnctlError for what does not fit a base. outline: the base without its weights."""
    shapes = _shapes(outline)
    for path, _ in map(parse_lora, loras):
        outline.family.read_lora(path, shapes)
    for path, word in map(parse_embedding, embeddings):
        _add_embedding(outline, path, word)


def load_adapters(base: Base, loras: Sequence[str], embeddings: Sequence[str]) -> Adapters:
    """Change the base in memory. loras: FILE[:SCALE]; embeddings: FILE or WORD=FILE."""
    return Adapters(
        loras=tuple(_load_lora(base, *parse_lora(text)) for text in loras),
        embeddings=tuple(_load_embedding(base, *parse_embedding(text)) for text in embeddings),
    )


def parse_lora(text: str) -> tuple[Path, float]:
    """The file and the scale of FILE[:SCALE]; the scale is 1 where it is not given."""
    name, colon, scale = text.rpartition(":")
    if not colon or Path(text).is_file():
        return Path(text).expanduser(), 1.0
    try:
        return Path(name).expanduser(), float(scale)
    except ValueError:
        return Path(text).expanduser(), 1.0


def parse_embedding(text: str) -> tuple[Path, str]:
    """The file and the word of FILE or WORD=FILE; the word is "" where it is not given."""
    word, equals, name = text.partition("=")
    if not equals or Path(text).is_file():
        return Path(text).expanduser(), ""
    return Path(name).expanduser(), word


def _load_lora(base: Base, path: Path, scale: float) -> LoraRecord:
    from cnctl.models.base_update import add_base_update  # imports torch, which takes seconds

    layers: dict[str, list[Any]] = defaultdict(list)
    for layer in base.family.read_lora(path, _shapes(base)):
        layers[layer.part].append(layer)
    for part, own in layers.items():
        add_base_update(base.parts[part], ((one.weight, scale * one.change()) for one in own))
    return LoraRecord(name=path.name, sha256=known_sha256(path), scale=scale)


def _shapes(base: Base) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
    return {
        part: {name: tuple(p.shape) for name, p in module.named_parameters()}
        for part, module in base.parts.items()
    }


def _load_embedding(base: Base, path: Path, word: str) -> EmbeddingRecord:
    word = _add_embedding(base, path, word)
    return EmbeddingRecord(name=path.name, sha256=known_sha256(path), word=word)


def _add_embedding(base: Base, path: Path, word: str) -> str:
    """The word that stands for it."""
    own_word, vectors = base.family.read_embedding(path)
    word = word or own_word or path.stem
    if not word.strip() or " " in word:
        raise CnctlError(f"{word!r} cannot be a word of a prompt", hint=f"give WORD={path}")
    base.family.add_embedding(base, word, vectors)
    return word
