"""Hashes of what a command has written: of what a file means, not of how it is laid out."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open

VOLATILE = {"version", "libraries", "plugin", "format", "torch", "by", "seconds", "log_bytes"}
"""Keys of JSON documents that differ between versions, machines or runs."""
SECONDS = re.compile(r"\d+(\.\d+)? (s|seconds|minutes|min|ms)\b|[\d.]+ s/step")


def digest_file(path: Path) -> Iterator[tuple[str, str]]:
    """The parts of a file and the sha256 of each."""
    match path.suffix:
        case ".png" | ".jpg":
            yield from _digest_picture(path)
        case ".safetensors":
            yield from _digest_tensors(path)
        case ".npz":
            arrays = np.load(path)
            yield from ((name, _digest_array(arrays[name])) for name in sorted(arrays))
        case ".json":
            yield from _digest_document(json.loads(path.read_text()))
        case ".jsonl":
            lines = [_stable(json.loads(line)) for line in path.read_text().splitlines()]
            yield "lines", _digest_json(lines)
        case ".html" | ".svg":
            yield from _digest_page(path.read_text())
        case _:
            yield "bytes", _sha256(path.read_bytes())


def _digest_picture(path: Path) -> Iterator[tuple[str, str]]:
    """Its pixels, and each field of the record that is written in it."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
        texts = {name: text for name, text in picture.info.items() if isinstance(text, str)}
    yield "pixels", _digest_array(pixels)
    for name, text in sorted(texts.items()):
        if text.startswith("{"):
            for key, value in _digest_document(json.loads(text)):
                yield f"{name}.{key}", value
        else:
            yield name, _sha256(re.sub(r"Version: [^,]*", "", text).encode())


def _digest_tensors(path: Path) -> Iterator[tuple[str, str]]:
    """The file as it is, its tensors by name, and what it says of itself."""
    yield "file", _sha256(path.read_bytes())
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {}
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name).contiguous()
            data = tensor.reshape(-1).view(_bytes_of(tensor)).numpy().tobytes()
            tensors[name] = [str(tensor.dtype), list(tensor.shape), _sha256(data)]
    yield "tensors", _digest_json(tensors)
    for key, text in sorted(metadata.items()):
        known = _stable(json.loads(text)) if text.startswith("{") else text
        yield f"metadata.{key}", _digest_json(known)


def _bytes_of(tensor: Any) -> Any:
    import torch

    return torch.uint8 if tensor.ndim else tensor.dtype  # a scalar has no bytes to view


def _digest_document(document: Any) -> Iterator[tuple[str, str]]:
    """Each key of an object by itself, so that a new one hides no change."""
    if isinstance(document, Mapping):
        for key, value in sorted(_stable(document).items()):
            yield key, _digest_json(value)
    else:
        yield "document", _digest_json(_stable(document))


def _digest_page(text: str) -> Iterator[tuple[str, str]]:
    """The words of a page, and the pictures inside it."""
    pictures = re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", text)
    pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in pictures]
    yield "pictures", _digest_json([_digest_array(one) for one in pixels])
    yield "words", _sha256(" ".join(page_words(text)).encode())


def page_words(text: str) -> list[str]:
    """What a reader sees of a page, without how long anything took."""
    text = re.sub(r"<(style|script)\b.*?</\1>", " ", text, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return SECONDS.sub(" ", text).split()


def _stable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _stable(value[key]) for key in value if key not in VOLATILE}
    return [_stable(one) for one in value] if isinstance(value, list) else value


def _digest_json(value: Any) -> str:
    return _sha256(json.dumps(value, sort_keys=True).encode())


def _digest_array(array: np.ndarray) -> str:
    return _sha256(f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
