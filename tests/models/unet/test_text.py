"""Text features of prompts, of any length, against the text encoder called by hand."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from cnctl.models.base import Base
from cnctl.models.prompts import PromptOptions, count_chunks, encode_prompts, most_clip_skip
from cnctl.sampling.denoise import sample

# Letters are tokens of the random base, so lengths are easy to tell.
SHORT, LONG = "a" * 10, "ab" * 60


@torch.no_grad()
def by_hand(base: Base, tokens: list[int]) -> torch.Tensor:
    tokenizer = base.text_encoders[0].tokenizer
    row = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
    row += [tokenizer.pad_token_id] * (77 - len(row))
    return base.text_encoders[0].model(torch.tensor([row]))[0]


def test_a_prompt_that_fits_is_as_the_tokenizer_has_it(loaded_random_base: Base) -> None:
    base = loaded_random_base
    padded = base.text_encoders[0].tokenizer(
        [SHORT, ""], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = base.text_encoders[0].model(padded.input_ids)[0]
    torch.testing.assert_close(
        encode_prompts(base, [SHORT, ""]).tokens, expected, rtol=1e-5, atol=1e-5
    )


def test_a_long_prompt_is_read_in_chunks_of_75(loaded_random_base: Base) -> None:
    base = loaded_random_base
    assert count_chunks(base) == count_chunks(base, "") == count_chunks(base, "a" * 75) == 1
    assert count_chunks(base, SHORT, LONG) == count_chunks(base, "a" * 76) == 2
    features = encode_prompts(base, [LONG, SHORT], chunks=2).tokens
    assert features.shape == (2, 154, 32)
    words = base.text_encoders[0].tokenizer(LONG).input_ids[1:-1]
    assert len(words) == 120
    parts = [by_hand(base, words[:75]), by_hand(base, words[75:])]
    assert torch.equal(features[:1], torch.cat(parts, dim=1))
    assert torch.equal(features[1:, 77:], by_hand(base, []))


def test_what_exceeds_the_chunks_is_cut_off(loaded_random_base: Base) -> None:
    words = loaded_random_base.text_encoders[0].tokenizer(LONG).input_ids[1:-1]
    expected = by_hand(loaded_random_base, words[:75])
    assert torch.equal(encode_prompts(loaded_random_base, [LONG]).tokens, expected)


@pytest.mark.parametrize("negative", ["", LONG])
def test_the_end_of_a_long_prompt_matters(loaded_random_base: Base, negative: str) -> None:
    def made(prompt: str) -> Any:
        size = {"height": 64, "width": 64, "steps": 2, "seeds": [0]}
        return sample(loaded_random_base, [], [prompt], negative_prompts=[negative], **size)

    assert (made(LONG + " a") != made(LONG + " b")).any()


class TestEncodePrompts:
    def test_any_text(self, loaded_random_base: Base) -> None:
        texts = ["a cat", "", "naïve 猫 🙂 \x00", "word " * 500, "a cat"]
        features = encode_prompts(loaded_random_base, texts).tokens
        assert features.shape == (5, 77, 32)
        assert torch.isfinite(features).all()
        assert torch.equal(features[0], features[4])
        assert not torch.equal(features[0], features[1])

    def test_is_what_the_text_encoder_says(self, loaded_random_base: Base) -> None:
        base = loaded_random_base
        tokens = (
            base.text_encoders[0]
            .tokenizer(["a cat"], padding="max_length", return_tensors="pt")
            .input_ids
        )
        with torch.no_grad():
            expected = base.text_encoders[0].model(tokens).last_hidden_state
        assert torch.equal(encode_prompts(base, ["a cat"]).tokens, expected)


def test_clip_skip_is_a_text_encoder_without_its_last_layers(loaded_random_base: Base) -> None:
    base = loaded_random_base
    shorter = base.text_encoders[0]._replace(model=copy.deepcopy(base.text_encoders[0].model))
    del shorter.model.encoder.layers[-1]
    expected = encode_prompts(replace(base, text_encoders=(shorter,)), [SHORT]).tokens
    skipped = encode_prompts(base, [SHORT], options=PromptOptions(clip_skip=2)).tokens
    assert torch.equal(skipped, expected)
    assert not torch.allclose(skipped, encode_prompts(base, [SHORT]).tokens)
    assert most_clip_skip(base) == 2


def test_emphasis_weighs_the_tokens_of_its_words(loaded_random_base: Base) -> None:
    base, weighing = loaded_random_base, PromptOptions(emphasis=True)
    plain = encode_prompts(base, ["ab"]).tokens
    weighed = encode_prompts(base, ["a(b:1.5)"], options=weighing).tokens
    words = (
        base.text_encoders[0].tokenizer("a").input_ids[1:-1]
        + base.text_encoders[0].tokenizer("b").input_ids[1:-1]
    )
    apart = by_hand(base, words)  # a weight parts words, so "ab" is "a", "b" here
    weights = torch.ones(77, 1)
    weights[2] = 1.5
    expected = apart * weights * (apart.mean() / (apart * weights).mean())
    torch.testing.assert_close(weighed, expected)
    assert torch.equal(encode_prompts(base, ["ab"], options=weighing).tokens, plain)
    assert torch.equal(
        encode_prompts(base, [r"a\(b"], options=weighing).tokens,
        encode_prompts(base, ["a(b"]).tokens,
    )


def test_brackets_that_weigh_take_no_room_in_a_chunk(loaded_random_base: Base) -> None:
    prompt = f"({'a' * 74}:1.3)"
    assert count_chunks(loaded_random_base, prompt) == 2
    assert count_chunks(loaded_random_base, prompt, options=PromptOptions(emphasis=True)) == 1
