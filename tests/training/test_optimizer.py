from dataclasses import replace

import pytest
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup

from cnctl.settings import TrainSettings
from cnctl.training.optimizer import learning_rate_at


def test_the_learning_rate_follows_its_schedule() -> None:
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.AdamW([parameter], lr=0.5)
    theirs = get_cosine_schedule_with_warmup(optimizer, 3, 13)
    settings = TrainSettings(steps=13, learning_rate=0.5, lr_warmup=3, lr_schedule="cosine")
    ours = [learning_rate_at(step, settings) for step in range(13)]
    expected = []
    for _ in range(13):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    # Theirs wastes its first step on a rate of zero; where the warm-up ends, all is the same.
    assert ours[:3] == pytest.approx([1 / 6, 1 / 3, 1 / 2])
    assert ours[3:] == pytest.approx(expected[3:])
    constant = replace(settings, lr_schedule="constant")
    assert [learning_rate_at(step, constant) for step in (0, 2, 3, 12)] == [1 / 6, 0.5, 0.5, 0.5]
