"""Bases from folders, the hub's cache and short names; families; precision and device."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTokenizer

from cnctl.core import base as base_module
from cnctl.core.base import (
    Base,
    Family,
    check_same_family,
    decode_latents,
    default_base,
    encode_images,
    family_of,
    load_base,
    locate_base,
    pick_device,
    pick_dtype,
    read_family,
)
from cnctl.core.text import encode_prompts
from cnctl.errors import CnctlError, DeviceError, MissingError
from cnctl.tiny.autoencoder import PatchAutoencoder

SD15 = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768}
SD21 = {**SD15, "cross_attention_dim": 1024}
SDXL = {"block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048}


@pytest.fixture
def own_base(random_base: Path, tmp_path: Path) -> Path:
    """A copy of the random base that a test may spoil."""
    return Path(shutil.copytree(random_base, tmp_path / "own"))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestLoadBase:
    def test_a_folder(self, loaded_random_base: Base, random_base: Path) -> None:
        base = loaded_random_base
        assert base.name == "random"
        assert base.path == random_base
        assert base.resolution == 64
        assert base.latent_factor == 8
        assert base.prediction_type == "epsilon"
        assert (base.device, base.dtype) == (torch.device("cpu"), torch.float32)
        assert base.defaults == {}
        expected = UNet2DConditionModel.from_pretrained(random_base / "unet")
        theirs = expected.state_dict()
        assert all(torch.equal(v, theirs[n]) for n, v in base.unet.state_dict().items())

    def test_is_locked(self, loaded_random_base: Base) -> None:
        for part in ("unet", "vae", "text_encoder"):
            module = getattr(loaded_random_base, part)
            assert not module.training
            assert not any(p.requires_grad for p in module.parameters())

    def test_brings_its_defaults(self, own_base: Path) -> None:
        change_json(own_base / "model_index.json", cnctl={"guidance_scale": 3, "resolution": 128})
        base = load_base(own_base)
        assert base.defaults["guidance_scale"] == 3
        assert base.resolution == 128

    def test_samples_by_ddim_whatever_the_folder_says(self, own_base: Path) -> None:
        index = own_base / "model_index.json"
        change_json(index, scheduler=["diffusers", "PNDMScheduler"])
        change_json(own_base / "scheduler/scheduler_config.json", _class_name="PNDMScheduler")
        base = load_base(own_base)
        assert isinstance(base.scheduler, DDIMScheduler)
        assert base.scheduler.config.beta_end == 0.012
        assert not base.scheduler.config.clip_sample

    def test_an_autoencoder_of_our_own(self, own_base: Path) -> None:
        shutil.rmtree(own_base / "vae")
        PatchAutoencoder(latent_channels=4).save_pretrained(own_base / "vae")
        entry = ["cnctl.tiny.autoencoder", "PatchAutoencoder"]
        change_json(own_base / "model_index.json", vae=entry)
        base = load_base(own_base)
        assert isinstance(base.vae, PatchAutoencoder)
        assert base.latent_factor == 8
        assert decode_latents(base, torch.zeros(1, 4, 8, 6)).shape == (1, 64, 48, 3)

    @pytest.mark.parametrize(("dtype", "vae"), [("bf16", "bfloat16"), ("float16", "float32")])
    def test_precision(self, random_base: Path, dtype: str, vae: str) -> None:
        base = load_base(random_base, dtype=dtype)
        assert base.dtype == base.unet.dtype == base.text_encoder.dtype
        assert base.dtype == {"bf16": torch.bfloat16, "float16": torch.float16}[dtype]
        assert base.vae.dtype == getattr(torch, vae)

    def test_half_precision_variant_alone(self, own_base: Path) -> None:
        for path in own_base.glob("*/*.safetensors"):
            path.rename(path.with_suffix(".fp16.safetensors"))
        assert load_base(own_base).dtype == torch.float32

    def test_older_tokenizer_files(self, own_base: Path) -> None:
        folder = own_base / "tokenizer"
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        ids = load_base(own_base).tokenizer("Cat").input_ids
        assert ids == CLIPTokenizer(vocab=model["vocab"], merges=[])("cat").input_ids


class TestRefusesToLoad:
    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            (["os", "system"], "takes vae from 'os', which is not trusted"),
            (["cnctl_evil.vae", "Vae"], "takes vae from 'cnctl_evil.vae', which is not trusted"),
            (["diffusers", "DDIMScheduler"], "DDIMScheduler cannot be a vae"),
            (["diffusers", "Nothing"], "diffusers has no Nothing"),
            (["cnctl.nothing", "Vae"], "cnctl.nothing has no Vae"),
            ("AutoencoderKL", "names no vae"),
        ],
    )
    def test_classes(self, own_base: Path, entry: Any, message: str) -> None:
        change_json(own_base / "model_index.json", vae=entry)
        with pytest.raises(CnctlError, match=message):
            load_base(own_base)

    def test_pickles(self, own_base: Path) -> None:
        weights = own_base / "unet" / "diffusion_pytorch_model.safetensors"
        weights.unlink()
        torch.save({}, own_base / "unet" / "diffusion_pytorch_model.bin")
        with pytest.raises(MissingError, match="unet cannot be read"):
            load_base(own_base)

    def test_a_missing_component(self, own_base: Path) -> None:
        shutil.rmtree(own_base / "text_encoder")
        with pytest.raises(MissingError, match="text_encoder cannot be read"):
            load_base(own_base)

    @pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
    def test_truncated_weights(self, own_base: Path, part: str) -> None:
        path = next((own_base / part).glob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(MissingError, match=f"{part} cannot be read"):
            load_base(own_base)

    @pytest.mark.parametrize("part", ["unet", "text_encoder"])
    def test_weights_left_to_chance(self, own_base: Path, part: str) -> None:
        from safetensors.torch import load_file, save_file

        path = next((own_base / part).glob("*.safetensors"))
        weights = load_file(path)
        name = sorted(weights)[0]
        del weights[name]
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(CnctlError, match=rf"{part} lacks 1 of its weights"):
            load_base(own_base)

    def test_sdxl(self, own_base: Path) -> None:
        change_json(own_base / "model_index.json", text_encoder_2=["transformers", "CLIPTextModel"])
        with pytest.raises(CnctlError, match="two text encoders, as SDXL has"):
            load_base(own_base)

    @pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
    def test_damaged_index(self, own_base: Path, text: str) -> None:
        index = own_base / "model_index.json"
        index.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(CnctlError, match=r"model_index.json is not"):
            load_base(own_base)

    def test_an_absent_device(self, random_base: Path) -> None:
        with pytest.raises(DeviceError, match="there is no device cuda:99"):
            load_base(random_base, device="cuda:99")


class TestLocateBase:
    def test_what_is_given(self, random_base: Path) -> None:
        assert locate_base(random_base).path == random_base
        assert locate_base(str(random_base)).name == "random"

    def test_the_hubs_cache(
        self, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository = fake_cache(tmp_path, "someone/some-base", random_base)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        location = locate_base("someone/some-base")
        assert location.path == repository / "snapshots" / "abc"
        assert load_base("someone/some-base").name == "someone/some-base"

    def test_a_short_name(
        self, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(MissingError, match="nor in the hub cache") as caught:
            locate_base("sd15")
        assert caught.value.hint == "fetch it with: cnctl models pull sd15"
        fake_cache(tmp_path, base_module.HUB_NAMES["sd15"][0], random_base)
        assert locate_base("sd15").name == "stable-diffusion-v1-5/stable-diffusion-v1-5"

    @pytest.mark.parametrize(
        ("source", "message", "hint"),
        [
            ("sd-15", "no base at 'sd-15'", "did you mean 'sd15'"),
            ("/no/such/place", "no base at '/no/such/place'", "short names are tiny"),
            ("someone/nothing", "neither a path nor in the hub cache", "cnctl models pull"),
            ("", "no base at ''", "short names"),
        ],
    )
    def test_nothing_there(self, source: str, message: str, hint: str) -> None:
        with pytest.raises(MissingError, match=message) as caught:
            locate_base(source)
        assert hint in caught.value.hint

    def test_a_folder_that_is_no_base(self, tmp_path: Path) -> None:
        with pytest.raises(CnctlError, match=r"is no base: it has no model_index.json"):
            locate_base(tmp_path)

    def test_a_pickle(self, tmp_path: Path) -> None:
        (tmp_path / "model.ckpt").touch()
        with pytest.raises(CnctlError, match=r"is not a .safetensors file"):
            locate_base(tmp_path / "model.ckpt")

    def test_the_default_says_why(
        self, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        location = default_base()
        assert location.name == "tiny"
        assert "cnctl models pull sd15" in location.reason
        fake_cache(tmp_path, base_module.HUB_NAMES["sd15"][0], random_base)
        assert "found in the hub cache" in default_base().reason


def fake_cache(cache: Path, hub_id: str, folder: Path) -> Path:
    """A repository in the hub's cache that holds this folder."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / "abc").symlink_to(folder)
    return repository


class TestFamily:
    @pytest.mark.parametrize(
        ("config", "name"), [(SD15, "SD 1.x"), (SD21, "SD 2.x"), (SDXL, "SDXL")]
    )
    def test_by_shape(self, config: dict, name: str) -> None:
        assert family_of(config).name == name

    def test_of_the_embedded_base(self) -> None:
        assert read_family("tiny").name == "tiny"
        assert load_base("tiny").family == read_family("tiny")

    def test_of_something_else(self, random_base: Path) -> None:
        family = read_family(random_base)
        assert family == Family("", 32, (16, 32, 32, 32), 2, 4)
        assert family.name == "U-Net 16-32-32-32 with text width 32"

    def test_no_weights_are_read(self, own_base: Path) -> None:
        for path in own_base.glob("*/*.safetensors"):
            path.unlink()
        assert read_family(own_base).text_width == 32

    def test_the_same(self) -> None:
        check_same_family({**SD15, "conditioning_channels": 1}, SD15)

    def test_another(self) -> None:
        message = r"^this ControlNet was made for SD 2\.x; the base is SD 1\.x$"
        with pytest.raises(CnctlError, match=message) as caught:
            check_same_family(SD21, SD15)
        assert caught.value.hint == "choose a base of SD 2.x, or a ControlNet for SD 1.x"

    def test_no_network_at_all(self) -> None:
        with pytest.raises(CnctlError, match="no 'cross_attention_dim'"):
            family_of({"block_out_channels": [1]})


class TestDeviceAndPrecision:
    def test_defaults(self) -> None:
        device = pick_device(None)
        available = torch.cuda.is_available() or torch.backends.mps.is_available()
        assert (device.type == "cpu") == (not available)
        assert pick_dtype(torch.device("cpu"), None) == torch.float32
        assert pick_dtype(torch.device("mps"), None) == torch.float32

    @pytest.mark.parametrize("name", ["tpu3", "meta", "", "cuda:x"])
    def test_unknown_device(self, name: str) -> None:
        with pytest.raises(CnctlError, match="unknown device"):
            pick_device(name)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
    def test_no_cuda(self) -> None:
        with pytest.raises(DeviceError, match="there is no device cuda: torch sees no CUDA"):
            pick_device("cuda")

    @pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")
    def test_no_mps(self) -> None:
        with pytest.raises(DeviceError, match="there is no device mps"):
            pick_device("mps")

    def test_names(self) -> None:
        cpu = torch.device("cpu")
        assert pick_dtype(cpu, "bf16") == pick_dtype(cpu, torch.bfloat16) == torch.bfloat16
        with pytest.raises(CnctlError, match="unknown dtype 'int8'"):
            pick_dtype(cpu, "int8")

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    def test_on_a_gpu(self, random_base: Path) -> None:
        base = load_base(random_base, device="cuda")
        assert base.unet.device.type == base.vae.device.type == "cuda"
        assert base.dtype in (torch.bfloat16, torch.float16)


class TestEncodePrompts:
    def test_any_text(self, loaded_random_base: Base) -> None:
        texts = ["a cat", "", "naïve 猫 🙂 \x00", "word " * 500, "a cat"]
        features = encode_prompts(loaded_random_base, texts)
        assert features.shape == (5, 77, 32)
        assert torch.isfinite(features).all()
        assert torch.equal(features[0], features[4])
        assert not torch.equal(features[0], features[1])

    def test_is_what_the_text_encoder_says(self, loaded_random_base: Base) -> None:
        base = loaded_random_base
        tokens = base.tokenizer(["a cat"], padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            expected = base.text_encoder(tokens).last_hidden_state
        assert torch.equal(encode_prompts(base, ["a cat"]), expected)


class TestImages:
    def images(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (2, 64, 40, 3), dtype=np.uint8)

    def test_encode(self, loaded_random_base: Base) -> None:
        base, images = loaded_random_base, self.images()
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2)).float() / 255 * 2 - 1
        with torch.no_grad():
            posterior = base.vae.encode(pixels).latent_dist
        expected = posterior.mean * base.vae.config.scaling_factor
        latents = encode_images(base, images)
        assert latents.shape == (2, 4, 8, 5)
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)
        noise = torch.randn(2, 4, 8, 5, generator=torch.Generator().manual_seed(1))
        expected = (posterior.mean + posterior.std * noise) * base.vae.config.scaling_factor
        drawn = encode_images(base, images, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-5)

    def test_each_image_by_its_own_generator(self, loaded_random_base: Base) -> None:
        images = self.images()
        both = encode_images(
            loaded_random_base, images, generator=[torch.Generator().manual_seed(s) for s in (1, 2)]
        )
        alone = encode_images(
            loaded_random_base, images[1:], generator=[torch.Generator().manual_seed(2)]
        )
        torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)

    def test_decode(self, loaded_random_base: Base) -> None:
        base = loaded_random_base
        latents = torch.randn(2, 4, 8, 5, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            pixels = base.vae.decode(latents / base.vae.config.scaling_factor).sample
        expected = ((pixels.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
        images = decode_latents(base, latents)
        assert images.shape == (2, 64, 40, 3)
        assert images.dtype == np.uint8
        assert np.abs(images - expected).max() < 0.51

    def test_not_numbers(self, loaded_random_base: Base) -> None:
        with pytest.raises(CnctlError, match="pixels that are not numbers"):
            decode_latents(loaded_random_base, torch.full((1, 4, 8, 8), float("nan")))
