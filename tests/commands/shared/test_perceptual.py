"""CLIP score, FID and KID, on networks of the true classes with random weights."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from cnctl.commands.shared import perceptual
from cnctl.errors import CnctlError, MissingError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")
CPU = torch.device("cpu")


def pictures(count: int, *, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of 32 pixels whose words are single letters."""
    folder = tmp_path_factory.mktemp("clip")
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    tokenizer.model_max_length = 77
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    shared |= {"num_attention_heads": 2}
    text = shared | {
        "vocab_size": len(words),
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
        "pad_token_id": len(words) - 1,
    }
    vision = shared | {"image_size": 32, "patch_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return folder


def test_clip_score_is_the_cosine_of_the_embeddings(clip: Path) -> None:
    score = perceptual.open_clip(str(clip), device=CPU)
    model, processor = CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    scores = []
    for picture, prompt in zip(pictures(4), ("a cat", "", "a far longer text", "z"), strict=True):
        inputs = processor(text=prompt, images=picture, return_tensors="pt")
        with torch.no_grad():
            found = model(**inputs)
        cosine = torch.cosine_similarity(found.image_embeds, found.text_embeds)
        scores.append(score(picture, prompt))
        # What points the other way scores 0 (Hessel et al., 2021).
        assert scores[-1] == pytest.approx(max(0, 100 * float(cosine)), abs=1e-3)
    assert any(scores)


def test_distances_are_their_formulas() -> None:
    """FID by scipy's root of a matrix; KID, where the subset is all, by the unbiased MMD itself."""
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(60, 8)), rng.normal(0.5, 2, size=(60, 8))
    means = ((real.mean(0) - made.mean(0)) ** 2).sum()
    a, b = np.cov(real.T), np.cov(made.T)
    expected = means + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    tensors = torch.from_numpy(real).float(), torch.from_numpy(made).float()
    assert perceptual.frechet_distance(*tensors) == pytest.approx(expected, rel=1e-3)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / 8 + 1) ** 3

    n = len(real)
    grams = [kernel(x, x) for x in (real, made)]
    within = sum((gram.sum() - np.trace(gram)) / (n * (n - 1)) for gram in grams)
    mean, deviation = perceptual.kernel_distance(*tensors)
    assert mean == pytest.approx(within - 2 * kernel(real, made).mean(), rel=1e-3)
    assert deviation == pytest.approx(0, abs=1e-3 * mean)


@pytest.mark.slow
def test_inception_is_read_without_running_its_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as published

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingError, match="FID and KID need the Inception network") as caught:
        perceptual.open_inception(device=CPU)
    assert "curl" in caught.value.hint

    kind = published.FeatureExtractorInceptionV3
    with monkeypatch.context() as patched:
        patched.setattr(published, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(kind, "load_state_dict", lambda *_: None)
        network = kind("inception-v3-compat", ["2048"])
    path = tmp_path / "hub/checkpoints" / perceptual.INCEPTION_URL.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    found = perceptual.embed(pictures(2, side=299), perceptual.open_inception(device=CPU))
    pixels = torch.from_numpy(pictures(2, side=299)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, network(pixels)[0], rtol=1e-4, atol=1e-5)


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CnctlError, match="no metric 'lpips'"):
        perceptual.check_metrics(["lpips"])
    with pytest.raises(MissingError, match="no CLIP 'openai/clip-vit-large-patch14'") as caught:
        perceptual.open_clip(None, device=CPU)
    assert caught.value.hint == "fetch it: cnctl models pull clip"
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CnctlError, match="is not a CLIP of transformers"):
        perceptual.open_clip(str(tmp_path), device=CPU)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(MissingError, match="--metrics clip needs torchmetrics") as caught:
        perceptual.check_metrics(["clip"])
    assert caught.value.hint == "pip install 'cnctl[metrics]'"
