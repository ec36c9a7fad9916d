import hashlib
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from cnctl.data import Pair
from cnctl.errors import CnctlError, DeviceError, MissingError
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.settings import TrainSettings
from cnctl.training import objective, variables
from cnctl.training.checkpoints import Checkpoint, newest_checkpoint, save_checkpoint
from cnctl.training.trainer import DivergedError, Training

SETTINGS = TrainSettings(steps=4, batch_size=2, learning_rate=1e-2, resolution=32, seed=3)

EVERYTHING = {
    "gradient_accumulation": 2,
    "ema": 0.9,
    "lr_warmup": 2,
    "lr_schedule": "cosine",
    "max_grad_norm": 0.1,
}


class Noise:
    """Five examples; image and hint are functions of the number and of what `rng` draws."""

    groups = (0,) * 5

    def __len__(self) -> int:
        return 5

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        image = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        flip = rng is not None and rng.random() < 0.5
        return Pair(image, image[::-1, :, :1] if flip else image[..., :1], f"a {index}")

    def name(self, index: int) -> str:
        return f"noise {index}"


class Larger(Noise):
    """The same, 64 pixels to a side."""

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        small = super().load(index, rng)
        image, hint = (a.repeat(2, 0).repeat(2, 1) for a in (small.image, small.hint))
        return Pair(image, hint, small.prompt)


class Mixed(Noise):
    """Lying and standing ones."""

    groups = (0, 1, 1, 0, 1)

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        square = super().load(index, rng)
        image, hint = (
            np.repeat(a, 2, axis=self.groups[index]) for a in (square.image, square.hint)
        )
        return Pair(image, hint, square.prompt)


class OneBad(Noise):
    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        if index == 2:
            raise CnctlError("noise 2 is damaged", hint="look at it")
        return super().load(index, rng)


def start(
    base: Base,
    *,
    examples: Noise | None = None,
    checkpoint: Checkpoint | None = None,
    **changes: object,
) -> Training:
    controlnet = build_controlnet(base.denoiser, hint_channels=1, seed=1)
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    examples = examples or Noise()
    return Training(base, controlnet, examples, settings=settings, checkpoint=checkpoint)


def digest(training: Training) -> str:
    found = hashlib.sha256()
    for group in training.tensors().values():
        for name in sorted(group):
            found.update(name.encode() + group[name].numpy().tobytes())
    return found.hexdigest()


def save(training: Training, folder: Path) -> None:
    save_checkpoint(folder, training.step, tensors=training.tensors(), state=training.state())


def test_gradient_wakes_in_stages_and_the_base_sleeps(loaded_random_base: Base) -> None:
    training = start(loaded_random_base)
    base_before = {k: v.clone() for k, v in loaded_random_base.denoiser.state_dict().items()}
    moved = []
    for _ in training.run():
        fresh = build_controlnet(loaded_random_base.denoiser, hint_channels=1, seed=1).state_dict()
        now = training.network.state_dict()
        moved.append({name for name in now if not torch.equal(now[name], fresh[name])})
    is_zero = ("controlnet_down_blocks", "controlnet_mid_block")
    # AdamW's weight decay moves what has a gradient, even one of zero, by lr * decay.
    assert {name for name in moved[0] if name.startswith(is_zero)} == {
        name for name in training.network.state_dict() if name.startswith(is_zero)
    }
    assert any(name.startswith("down_blocks") for name in moved[1])
    assert any("controlnet_cond_embedding.conv_out" in name for name in moved[1])
    after = loaded_random_base.denoiser.state_dict()
    assert all(torch.equal(after[name], base_before[name]) for name in after)


@pytest.mark.slow
def test_it_learns(loaded_random_base: Base) -> None:
    losses = [r.loss for r in start(loaded_random_base, steps=24, prompt_dropout=0.0).run()]
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6])


def test_reports_count_steps_and_epochs(loaded_random_base: Base) -> None:
    reports = list(start(loaded_random_base).run())
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert [report.epoch for report in reports] == [0, 0, 1, 1]
    assert all(report.learning_rate == 1e-2 and report.seconds > 0 for report in reports)


@pytest.mark.parametrize(
    "changes",
    [{}, EVERYTHING | {"workers": 2}],
    ids=["plain", "everything, workers"],
)
def test_interrupted_is_uninterrupted_bit_for_bit(
    loaded_random_base: Base, tmp_path: Path, changes: dict[str, object]
) -> None:
    whole = start(loaded_random_base, **changes | {"workers": 0})
    losses = [report.loss for report in whole.run()]
    begun = start(loaded_random_base, **changes)
    first = [report.loss for report in islice(begun.run(), 2)]
    save(begun, tmp_path)
    del begun
    resumed = start(loaded_random_base, checkpoint=newest_checkpoint(tmp_path), **changes)
    assert first + [report.loss for report in resumed.run()] == losses
    assert digest(resumed) == digest(whole)


@pytest.mark.slow
def test_a_run_in_buckets_resumes_and_splits_as_any_other(
    loaded_random_base: Base, tmp_path: Path
) -> None:
    how = {"examples": Mixed(), "steps": 6, "learning_rate": 1e-3}
    whole = start(loaded_random_base, **how)
    losses = [report.loss for report in whole.run()]
    begun = start(loaded_random_base, **how)
    list(islice(begun.run(), 3))
    save(begun, tmp_path)
    checkpoint = newest_checkpoint(tmp_path)
    resumed = start(loaded_random_base, checkpoint=checkpoint, **how, workers=2)
    assert [report.loss for report in resumed.run()] == losses[3:]
    assert digest(resumed) == digest(whole)
    split = start(loaded_random_base, **how, batch_size=1, gradient_accumulation=2)
    np.testing.assert_allclose([report.loss for report in split.run()], losses, rtol=1e-5)


@pytest.mark.slow
def test_a_run_that_grows_at_once_is_one_with_larger_batches(loaded_random_base: Base) -> None:
    grown, larger = start(loaded_random_base), start(loaded_random_base, gradient_accumulation=3)
    assert grown.accumulate_more(3) == 6
    curves = [[(r.loss, r.epoch) for r in training.run()] for training in (grown, larger)]
    assert curves[0] == curves[1]
    assert digest(grown) == digest(larger)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_has_grown_reads_on_and_resumes_bit_for_bit(
    loaded_random_base: Base, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(training: Training, steps: int) -> list[float]:
        return [report.loss for report in islice(training.run(), steps)]

    changes = {"gradient_accumulation": 2, "batch_size": 1, "steps": 5}
    places: list[tuple[int, int]] = []
    whole = start(loaded_random_base, **changes)
    draw = whole._variables.draw
    monkeypatch.setattr(whole._variables, "draw", lambda b: places.extend(b.keys) or draw(b))
    losses = trained(whole, 2)
    whole.accumulate_more(2)
    losses += trained(whole, 3)
    assert len(places) == 2 * 2 + 3 * 4
    per_epoch = [{index for epoch, index in places if epoch == e} for e in range(3)]
    assert per_epoch == [{0, 1, 2, 3, 4}] * 3  # none is left out
    assert len(set(places)) == len(places)  # none comes twice
    begun = start(loaded_random_base, workers=workers, **changes)
    begun_losses = trained(begun, 2)
    begun.accumulate_more(2)
    begun_losses += trained(begun, 1)
    save(begun, tmp_path)
    checkpoint = newest_checkpoint(tmp_path)
    resumed = start(loaded_random_base, checkpoint=checkpoint, workers=workers, **changes)
    assert begun_losses + trained(resumed, 2) == losses
    assert digest(resumed) == digest(whole)


@pytest.mark.slow
def test_how_a_batch_is_split_does_not_matter(loaded_random_base: Base) -> None:
    losses = [
        [report.loss for report in start(loaded_random_base, learning_rate=1e-3, **sizes).run()]
        for sizes in ({"batch_size": 4}, {"batch_size": 1, "gradient_accumulation": 4})
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_gradients_are_clipped_to_the_norm(loaded_random_base: Base) -> None:
    free, clipped = (start(loaded_random_base, max_grad_norm=norm) for norm in (0.0, 0.01))
    norms = [next(training.run()).gradient_norm for training in (free, clipped)]
    assert norms[0] == norms[1]  # the norm before clipping is reported
    for training, expected in ((free, norms[0]), (clipped, 0.01)):
        # After one step AdamW's first moment is a tenth of the gradient.
        moments = training.tensors()["optimizer"]
        first = [t.flatten() for name, t in moments.items() if name.startswith("exp_avg/")]
        assert float(torch.cat(first).norm()) * 10 == pytest.approx(expected, rel=1e-4)


def test_the_average_is_the_recursion_and_the_weights_return(loaded_random_base: Base) -> None:
    training = start(loaded_random_base, ema=0.5, steps=6)
    name = "controlnet_mid_block.weight"
    weight = dict(training.network.named_parameters())[name]
    expected = weight.detach().clone()
    for report in training.run():
        done = report.step - 1
        decay = min(0.5, (1 + done) / (10 + done)) if done else 0.0  # short before it is long
        expected = decay * expected + (1 - decay) * weight.detach()
    last = weight.detach().clone()
    with training.averaged() as (_, controlnet):
        averaged = controlnet.state_dict()[name].clone()
    torch.testing.assert_close(averaged, expected)
    assert not torch.equal(averaged, last)
    assert torch.equal(weight, last)


def test_from_the_middle_to_all(loaded_random_base: Base, tmp_path: Path) -> None:
    middle = start(loaded_random_base, connect="middle")
    list(middle.run())
    links = [n for n in middle.tensors()["optimizer"] if "controlnet_down_blocks" in n]
    assert links == []
    assert not any(p.any() for p in middle.network.controlnet_down_blocks.parameters())
    save(middle, tmp_path)
    everything = start(loaded_random_base, steps=6, checkpoint=newest_checkpoint(tmp_path))
    list(everything.run())
    assert all(p.any() for p in everything.network.controlnet_down_blocks.parameters())
    steps = {
        name: float(t) for name, t in everything.tensors()["optimizer"].items() if "step/" in name
    }
    assert set(steps.values()) == {2.0, 6.0}


@pytest.mark.slow
def test_the_base_learns_along_from_its_step_on(random_base: Path) -> None:
    base = load_base(random_base)
    before = {name: tensor.clone() for name, tensor in base.denoiser.state_dict().items()}
    training = start(base, unfreeze_after=2)
    moved = []
    for _ in training.run():
        now = base.denoiser.state_dict()
        moved.append({name for name in now if not torch.equal(now[name], before[name])})
    assert moved[0] == moved[1] == set()
    decoder = {n for n in before if n.startswith(("up_blocks.", "conv_norm_out.", "conv_out."))}
    assert moved[2] == moved[3] == decoder
    delta = training.base_update(base)
    assert delta.keys() == decoder
    after = base.denoiser.state_dict()
    for name, difference in delta.items():
        torch.testing.assert_close(before[name] + difference, after[name])
    counts = {
        name: float(t) for name, t in training.tensors()["optimizer"].items() if "step/" in name
    }
    assert {n for n, count in counts.items() if count == 2.0} == {f"step/base.{n}" for n in decoder}
    assert set(counts.values()) == {2.0, 4.0}  # the ControlNet's moments have survived


@pytest.mark.slow
@pytest.mark.parametrize("killed", [2, 3])
def test_an_unfrozen_run_resumes_bit_for_bit(
    random_base: Path, tmp_path: Path, killed: int
) -> None:
    how = {"unfreeze_after": 2, "unfreeze": "all", "ema": 0.5, "learning_rate": 1e-3}
    whole = start(load_base(random_base), **how)
    losses = [report.loss for report in whole.run()]
    begun = start(load_base(random_base), **how)
    first = [report.loss for report in islice(begun.run(), killed)]
    save(begun, tmp_path)
    resumed = start(load_base(random_base), checkpoint=newest_checkpoint(tmp_path), **how)
    assert first + [report.loss for report in resumed.run()] == losses
    assert digest(resumed) == digest(whole)


@pytest.mark.slow
def test_prompts_are_dropped_by_chance(
    loaded_random_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode = variables.encode_prompts
    monkeypatch.setattr(
        variables,
        "encode_prompts",
        lambda base, prompts: seen.extend(prompts) or encode(base, prompts),
    )
    for share, expected in ((0.0, 0), (1.0, 8)):
        seen.clear()
        list(start(loaded_random_base, prompt_dropout=share).run())
        assert seen.count("") == expected
    seen.clear()
    list(start(loaded_random_base, steps=20, prompt_dropout=0.5).run())
    assert 10 <= seen.count("") <= 30  # of 40


@pytest.mark.parametrize("workers", [0, 2])
def test_what_an_example_raises_arrives_as_it_is(loaded_random_base: Base, workers: int) -> None:
    training = start(loaded_random_base, examples=OneBad(), workers=workers)
    with pytest.raises(CnctlError, match=r"^noise 2 is damaged$") as caught:
        list(training.run())
    assert caught.value.hint == "look at it"


def test_a_loss_that_is_no_number_stops_before_the_step(loaded_random_base: Base) -> None:
    training = start(loaded_random_base)
    run = training.run()
    next(run)
    with torch.no_grad():
        training.network.controlnet_mid_block.weight[0] = float("nan")
    kept = training.network.controlnet_mid_block.bias.clone()
    with pytest.raises(DivergedError, match=r"the loss is nan at step 2 \(noise \d, noise \d\)"):
        next(run)
    assert training.step == 1
    assert torch.equal(training.network.controlnet_mid_block.bias, kept)
    with pytest.raises(DivergedError, match="weights are not finite"):
        training.tensors()


def test_out_of_memory_says_what_takes_less(
    loaded_random_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "noise_prediction_loss", lambda *_, **__: torch.empty(1 << 50))
    with pytest.raises(DeviceError, match=r"^out of memory at step 1$") as caught:
        next(start(loaded_random_base).run())
    assert "--resume and --gradient-checkpointing, or --batch-size 1" in caught.value.hint
    assert "--gradient-accumulation 2" in caught.value.hint


def test_a_checkpoint_of_another_shape_is_refused(loaded_random_base: Base, tmp_path: Path) -> None:
    save(start(loaded_random_base), tmp_path)
    other = build_controlnet(loaded_random_base.denoiser, hint_channels=3, seed=1)
    kept = newest_checkpoint(tmp_path)
    with pytest.raises(CnctlError, match="does not fit this base"):
        Training(loaded_random_base, other, Noise(), settings=SETTINGS, checkpoint=kept)


@pytest.mark.slow
def test_half_precision_learns_in_full(random_base: Path) -> None:
    # On the CPU, torch's bfloat16 gradient of a strided convolution over one pixel is not defined.
    training = start(load_base(random_base, dtype="bfloat16"), steps=2, examples=Larger())
    losses = [report.loss for report in training.run()]
    assert all(np.isfinite(losses))
    assert all(
        tensor.dtype == torch.float32 for tensor in training.tensors()["controlnet"].values()
    )
    with pytest.raises(DeviceError, match="float16 does not train on the CPU"):
        start(load_base(random_base, dtype="float16"))


@pytest.mark.slow
def test_what_saves_memory_changes_nothing(loaded_random_base: Base, random_base: Path) -> None:
    plain = [report.loss for report in start(loaded_random_base).run()]
    checkpointed = start(load_base(random_base), gradient_checkpointing=True)
    assert [report.loss for report in checkpointed.run()] == plain
    laid_out = start(load_base(random_base), channels_last=True, learning_rate=1e-4)
    assert laid_out.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    losses = [report.loss for report in start(loaded_random_base, learning_rate=1e-4).run()]
    np.testing.assert_allclose([report.loss for report in laid_out.run()], losses, rtol=1e-4)


def test_eight_bits_say_what_they_need(
    loaded_random_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(MissingError, match="adamw8bit needs bitsandbytes") as caught:
        start(loaded_random_base, optimizer="adamw8bit")
    assert "pip install bitsandbytes" in caught.value.hint
