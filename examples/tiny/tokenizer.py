"""A CLIP tokenizer with its own vocabulary: every word of the grammar is one token."""

import json
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

from cnctl.tiny.captions import vocabulary

MAX_LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write the tokenizer's files to a folder and load it; other words fall apart into letters."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges = word_merges(vocabulary())
    tokens += list(dict.fromkeys("".join(pair) for pair in merges))
    tokens += [START, END]
    table = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    tokenizer = CLIPTokenizer(table, merges, model_max_length=MAX_LENGTH)
    tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def word_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges in order of rank that make each word one token.

    A word is first merged by what is there; then its first two pieces become a new, last merge.
    A new last merge cannot disturb a word that older merges already complete.
    """
    merges: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = merged([*word[:-1], word[-1] + "</w>"], merges)
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = len(merges)
            pieces = merged(pieces, merges)
    return list(merges)


def merged(pieces: list[str], merges: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding: merge the pair of lowest rank until none is left."""
    while True:
        ranks = [(merges.get(pair, len(merges)), i) for i, pair in enumerate(pairwise(pieces))]
        rank, index = min(ranks, default=(len(merges), 0))
        if rank == len(merges):
            return pieces
        pieces = [*pieces[:index], pieces[index] + pieces[index + 1], *pieces[index + 2 :]]


def byte_letters() -> list[str]:
    """The 256 characters that stand for bytes in byte-level BPE, in the order of GPT-2."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + index) for index in range(len(hidden))]
