"""Weighted words against the web interfaces' own documented examples."""

import pytest
import torch

from cnctl.models.prompt_weighting import read_emphasis, weigh, without_emphasis


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("", []),
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
        ("16:9, a) b]", [("16:9, a) b]", 1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a:b:-0.5)", [("a:b", -0.5)]),
    ],
)
def test_parts_and_weights(prompt, parts):
    found = read_emphasis(prompt)
    assert [text for text, _ in found] == [text for text, _ in parts]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in parts])


@pytest.mark.parametrize("prompt", ["a (b) [c:1.5]", r"\(", "(((", "plain"])
def test_brackets_can_be_letters(prompt):
    assert "".join(text for text, _ in read_emphasis(without_emphasis(prompt))) == prompt
    assert all(weight == 1 for _, weight in read_emphasis(without_emphasis(prompt)))


def test_features_keep_their_mean_and_change_their_proportions():
    features = torch.rand(1, 3, 5) + 1
    weighted = weigh(features, [1.0, 2.0, 0.5])
    assert weighted.mean() == pytest.approx(features.mean())
    ratio = (weighted / features)[0]
    assert torch.allclose(ratio[1] / ratio[0], torch.full((5,), 2.0))
    assert torch.allclose(ratio[2] / ratio[0], torch.full((5,), 0.5))
    assert torch.equal(weigh(features, [1.0, 1.0, 1.0]), features)
