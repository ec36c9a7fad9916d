"""A base from a folder: what is loaded, in what precision, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTokenizer

from cnctl.errors import CnctlError, DeviceError, MissingError
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.latents import decode_latents
from cnctl.tiny.autoencoder import PatchAutoencoder


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestLoadBase:
    def test_a_folder(self, loaded_random_base: Base, random_base: Path) -> None:
        base = loaded_random_base
        assert base.name == "random"
        assert base.path == random_base
        assert base.resolution == 64
        assert base.latent_factor == 8
        assert base.process.prediction == "epsilon"
        assert (base.device, base.dtype) == (torch.device("cpu"), torch.float32)
        assert base.defaults == {}
        expected = UNet2DConditionModel.from_pretrained(random_base / "unet")
        theirs = expected.state_dict()
        assert all(torch.equal(v, theirs[n]) for n, v in base.denoiser.state_dict().items())

    def test_is_locked(self, loaded_random_base: Base) -> None:
        for module in (loaded_random_base.vae, *loaded_random_base.parts.values()):
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
        assert isinstance(base.process.scheduler, DDIMScheduler)
        assert base.process.scheduler.config.beta_end == 0.012
        assert not base.process.scheduler.config.clip_sample

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
        assert base.dtype == base.denoiser.dtype == base.text_encoders[0].model.dtype
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
        ids = load_base(own_base).text_encoders[0].tokenizer("Cat").input_ids
        assert ids == CLIPTokenizer(vocab=model["vocab"], merges=[])("cat").input_ids


class TestOutline:
    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("kind", ["SD 1.x", "SDXL"])
    def test_is_made_of_configs_alone(
        self, random_base: Path, random_sdxl_base: Path, tmp_path: Path, kind: str
    ) -> None:
        source = random_base if kind == "SD 1.x" else random_sdxl_base
        folder = tmp_path / "outline"
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        base, outline = load_base(source), load_base(folder, dtype="bf16", weights=False)
        for part, module in {"vae": base.vae, **base.parts}.items():
            drawn = dict({"vae": outline.vae, **outline.parts}[part].named_parameters())
            shapes = {name: p.shape for name, p in module.named_parameters()}
            assert {name: p.shape for name, p in drawn.items()} == shapes
            assert {(p.device.type, p.dtype) for p in drawn.values()} == {("meta", torch.bfloat16)}
        assert outline.device == torch.device("cpu")
        assert outline.resolution == base.resolution

    def test_a_missing_config(self, own_base: Path) -> None:
        (own_base / "text_encoder" / "config.json").unlink()
        with pytest.raises(MissingError, match=r"text_encoder/config.json is missing"):
            load_base(own_base, weights=False)


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
        named = r"unet holds diffusion_pytorch_model\.bin, but no safetensors file"
        with pytest.raises(MissingError, match=named):
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

    def test_the_refiner_of_sdxl(self, own_base: Path) -> None:
        shape = {"cross_attention_dim": 1280, "block_out_channels": [384, 768, 1536, 1536]}
        change_json(own_base / "unet" / "config.json", **shape, layers_per_block=2)
        with pytest.raises(CnctlError, match="own is of the family SDXL refiner, which has no"):
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
