from pathlib import Path

import numpy as np
import pytest
import torch

from cnctl.commands.train.run import TrainRequest, train
from cnctl.errors import OutputError
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.latents import KLLatents
from cnctl.models.prompts import encode_prompts
from cnctl.training import encoding_cache as module
from cnctl.training.encoding_cache import EncodingCache

PROMPTS = ["a cat", "", "a cat"]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the base was asked for."""
    asked: list[str] = []
    for owner, name in [(KLLatents, "encode"), (module, "encode_prompts")]:
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, n=name, f=original: asked.append(n) or f(*a))
    return asked


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_it_says_what_the_base_says_and_asks_it_once(
    loaded_random_base: Base, tmp_path: Path, images: np.ndarray, calls: list[str]
) -> None:
    expected_moments = loaded_random_base.family.latents.encode(loaded_random_base, images)
    expected_text = encode_prompts(loaded_random_base, PROMPTS)
    calls.clear()
    for _ in range(2):  # another run with the same folder
        cache = EncodingCache(tmp_path, loaded_random_base)
        torch.testing.assert_close(cache.moments(images), expected_moments)
        torch.testing.assert_close(cache.text(PROMPTS).tokens, expected_text.tokens)
    assert calls == ["encode"] * 3 + ["encode_prompts"] * 2
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b""])
def test_a_damaged_entry_is_made_again(
    loaded_random_base: Base, tmp_path: Path, images: np.ndarray, damage: object
) -> None:
    cache = EncodingCache(tmp_path, loaded_random_base)
    first = cache.moments(images[:1])
    (entry,) = files(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))  # type: ignore[operator]
    assert torch.equal(cache.moments(images[:1]), first)
    assert entry.read_bytes() == whole


def test_other_weights_have_other_entries(
    loaded_random_base: Base, random_base: Path, tmp_path: Path, images: np.ndarray
) -> None:
    other = load_base(random_base)
    with torch.no_grad():
        other.vae.quant_conv.bias[0] += 1
    ours = EncodingCache(tmp_path, loaded_random_base).moments(images[:1])
    theirs = EncodingCache(tmp_path, other).moments(images[:1])
    torch.testing.assert_close(theirs[:, 0], ours[:, 0] + 1)


def test_a_cache_that_cannot_be_written_is_named(
    loaded_random_base: Base, tmp_path: Path, images: np.ndarray
) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(OutputError, match=r"/cache cannot be written") as caught:
        EncodingCache(tmp_path / "cache", loaded_random_base).moments(images)
    assert "--cache" in caught.value.hint


def test_a_hint_is_encoded_once_and_its_latents_are_the_same(
    loaded_sd3_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint that another network reads without the shift has another entry."""
    pixels = 2 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 1
    plain = loaded_sd3_base.family.latents
    expected = {
        shifted: torch.cat(
            [plain.encode_hint(loaded_sd3_base, one[None], shifted=shifted) for one in pixels]
        )
        for shifted in (True, False)
    }
    asked = []
    encode = KLLatents.encode_hint
    monkeypatch.setattr(
        KLLatents, "encode_hint", lambda *a, **k: asked.append(1) or encode(*a, **k)
    )
    for _ in range(2):  # another run with the same folder
        base = EncodingCache(tmp_path, loaded_sd3_base).keep_hints(loaded_sd3_base)
        for shifted, latents in expected.items():
            found = base.family.latents.encode_hint(base, pixels, shifted=shifted)
            assert torch.equal(found, latents)
    assert len(asked) == len(files(tmp_path)) == 4
    assert base.family.latents.factor(base) == plain.factor(loaded_sd3_base)


@pytest.mark.slow
def test_a_run_with_a_cache_is_that_without(random_sd3_base: Path, tmp_path: Path) -> None:
    """Images, hints and prompts; one example at a time, as the cache encodes them."""
    settings = {"resolution": 64, "batch_size": 1, "steps": 2, "preview_every": 0, "layers": 1}
    runs = []
    for name, cache in (
        ("plain", None),
        ("kept", tmp_path / "cache"),
        ("again", tmp_path / "cache"),
    ):
        asked = TrainRequest(
            condition="canny", data="scenes:3", base=str(random_sd3_base), settings=settings,
            cache=cache and str(cache),
        )  # fmt: skip
        train(asked, tmp_path / name)
        [weights] = (tmp_path / name / "controlnet").glob("*.safetensors")
        runs.append(weights.read_bytes()[-1000:])
    assert runs[0] == runs[1] == runs[2]
