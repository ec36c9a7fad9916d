"""What only SDXL has: two text encoders, zeros for an empty prompt, sizes as inputs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

from cnctl.commands.train.run import TrainRequest, train
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.prompts import PromptOptions, count_chunks, encode_prompts

PROMPTS = ["a red house", "a cat"]


def test_prompts_are_as_diffusers_encodes_them(loaded_sdxl_base: Base) -> None:
    base = loaded_sdxl_base
    pipeline = StableDiffusionXLPipeline(
        vae=base.vae,
        text_encoder=base.text_encoders[0].model,
        text_encoder_2=base.text_encoders[1].model,
        tokenizer=base.text_encoders[0].tokenizer,
        tokenizer_2=base.text_encoders[1].tokenizer,
        unet=base.denoiser,
        scheduler=base.process.scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    with torch.no_grad():
        tokens, zero_tokens, pooled, zero_pooled = pipeline.encode_prompt(PROMPTS)
        earlier = pipeline.encode_prompt(PROMPTS, clip_skip=1)[0]  # counts from 0
    skipped = encode_prompts(base, PROMPTS, options=PromptOptions(clip_skip=2))
    torch.testing.assert_close(skipped.tokens, earlier, rtol=1e-5, atol=1e-6)
    features = encode_prompts(base, PROMPTS)
    torch.testing.assert_close(features.tokens, tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.pooled, pooled, rtol=1e-5, atol=1e-6)
    empty = encode_prompts(base, ["", ""])
    assert torch.equal(empty.tokens, zero_tokens)
    assert torch.equal(empty.pooled, zero_pooled)
    assert not zero_pooled.any()


def test_a_base_that_was_not_trained_with_zeros_reads_the_empty_prompt(
    random_sdxl_base: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(random_sdxl_base, tmp_path / "own"))
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("true", "false"))
    base = load_base(folder)
    tokenizer = base.text_encoders[1].tokenizer
    row = [tokenizer.bos_token_id, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * 75]
    with torch.no_grad():
        expected = base.text_encoders[1].model(torch.tensor([row])).text_embeds
    assert torch.equal(encode_prompts(base, [""]).pooled, expected)
    assert expected.any()


def test_a_long_prompt_is_read_in_chunks_by_both_encoders(loaded_sdxl_base: Base) -> None:
    base, long = loaded_sdxl_base, "ab" * 60
    assert count_chunks(base, long) == 2
    features = encode_prompts(base, [long, "a"], chunks=2)
    assert features.tokens.shape == (2, 154, 56)
    first = encode_prompts(base, [long])
    torch.testing.assert_close(features.tokens[:1, :77], first.tokens)
    torch.testing.assert_close(features.pooled[:1], first.pooled)
    # The tokenizer puts "</w>" on the last letter only: the second chunk is the prompt's end.
    words = base.text_encoders[0].tokenizer(long, add_special_tokens=False).input_ids[75:]
    for model, tokenizer, place in (
        (base.text_encoders[0].model, base.text_encoders[0].tokenizer, slice(0, 32)),
        (base.text_encoders[1].model, base.text_encoders[1].tokenizer, slice(32, 56)),
    ):
        row = [tokenizer.bos_token_id, *words, tokenizer.eos_token_id]
        row += [tokenizer.pad_token_id] * (77 - len(row))
        with torch.no_grad():
            expected = model(torch.tensor([row]), output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(features.tokens[:1, 77:, place], expected)


def test_half_precision_keeps_the_autoencoder_in_float32(random_sdxl_base: Path) -> None:
    base = load_base(random_sdxl_base, dtype="float16")
    assert base.text_encoders[1].model.dtype == base.denoiser.dtype == torch.float16
    assert base.vae.dtype == torch.float32


def test_training_tells_the_sizes_and_crops_that_there_were(
    random_sdxl_base: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []
    forward = UNet2DConditionModel.forward

    def listening(self: UNet2DConditionModel, *given: Any, **named: Any) -> Any:
        told.extend(named["added_cond_kwargs"]["time_ids"].int().tolist())
        return forward(self, *given, **named)

    monkeypatch.setattr(UNet2DConditionModel, "forward", listening)
    request = TrainRequest(
        condition="canny",
        data=str(photographs),
        base=str(random_sdxl_base),
        settings={
            "steps": 3,
            "batch_size": 4,
            "resolution": 64,
            "random_crop": True,
            "preview_every": 0,
        },
    )
    train(request, tmp_path / "run")
    assert len(told) == 12
    # 40x80 becomes 64x128, and up to 64 columns stand over.
    assert {(*size[:3], *size[4:]) for size in told} == {(40, 80, 0, 64, 64)}
    lefts = [size[3] for size in told]
    assert min(lefts) >= 0
    assert max(lefts) <= 64
    assert len(set(lefts)) > 6
