"""The tokenizer knows the grammar and survives everything else."""

import pytest

from cnctl.tiny import WEIGHTS
from cnctl.tiny.captions import vocabulary
from examples.tiny.tokenizer import MAX_LENGTH, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_each_word_of_the_grammar_is_one_token(tokenizer):
    broken = [word for word in vocabulary() if len(tokenizer(word).input_ids) != 3]
    assert broken == []


def test_words_come_back(tokenizer):
    ids = tokenizer("A red CAT on the grass").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a red cat on the grass"


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "   ",
        "😀🐈",
        "zebra eating spaghetti",
        "кот и собака",
        "猫",
        "a" * 5000,
        "cat " * 400,
        "\x00",
    ],
)
def test_any_prompt_becomes_a_full_row_of_known_ids(tokenizer, prompt):
    row = tokenizer(prompt, padding="max_length", truncation=True).input_ids
    assert len(row) == MAX_LENGTH
    assert row[0] == tokenizer.bos_token_id
    assert row[-1] == tokenizer.eos_token_id
    assert max(row) < len(tokenizer)


def test_the_shipped_tokenizer_is_the_one_the_recipe_builds(tokenizer):
    shipped = type(tokenizer).from_pretrained(WEIGHTS / "tokenizer")
    assert shipped.get_vocab() == tokenizer.get_vocab()
    assert shipped.model_max_length == MAX_LENGTH
