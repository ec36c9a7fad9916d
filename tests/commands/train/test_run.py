"""Training as a job, on a base of random weights: runs, resumes, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from safetensors.torch import load_file, save_file

from cnctl.commands.convert.request import ConvertRequest
from cnctl.commands.convert.run import convert
from cnctl.commands.generate.adapters import Adapters
from cnctl.commands.generate.loaded_controls import load_controls
from cnctl.commands.generate.models import Models
from cnctl.commands.generate.request import ControlSpec
from cnctl.commands.shared.events import Loading, Note, Stage, ignore
from cnctl.commands.shared.weights import NamedControl, open_control
from cnctl.commands.train import previews
from cnctl.commands.train.events import Converged, OnEvent, Previewed, Started
from cnctl.commands.train.run import TrainRequest, check_data, plan_training, train
from cnctl.commands.train.run_settings import check_settings, resolve_settings
from cnctl.commands.train.setup import prepare
from cnctl.errors import CnctlError, MissingError, OutputError
from cnctl.images import write_hint, write_image
from cnctl.models.base import Base
from cnctl.models.families import load_base
from cnctl.models.unet.checkpoint.source import read_description
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.registry import get_condition
from cnctl.settings import GenerateSettings, TrainSettings
from cnctl.training.trainer import DivergedError, StepReport

SETTINGS = {
    "steps": 4,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "checkpoint_every": 2,
    "preview_every": 0,
    "seed": 5,
}


NAMES = {field.name for field in fields(TrainSettings)}


@pytest.fixture(scope="module")
def whole(random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run. Do not change it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    start(random_base, out)
    return out


def start(base: Path, out: Path, **changes: Any) -> Any:
    settings = SETTINGS | {k: changes.pop(k) for k in list(changes) if k in NAMES}
    how = {k: changes.pop(k) for k in ("resume", "on_event") if k in changes}
    asked: dict[str, Any] = {"condition": "canny", "data": "scenes:12"} | changes
    return train(TrainRequest(base=str(base), settings=settings, **asked), out, **how)


def go_on(out: Path, on_event: OnEvent = ignore, **settings: Any) -> Any:
    return train(TrainRequest(settings=settings), out, resume=True, on_event=on_event)


def notes_in(events: list[Any]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def weights(out: Path) -> bytes:
    return next((out / "controlnet").glob("*.safetensors")).read_bytes()


def log(out: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]


def stop_at(step: int, number: int) -> Callable[[object], None]:
    def on_event(event: object) -> None:
        if isinstance(event, StepReport) and event.step == step:
            signal.raise_signal(number)

    return on_event


@pytest.mark.parametrize(
    "kind",
    [
        {},
        pytest.param({"lora": 2}, marks=pytest.mark.slow),
        {"method": "input-concat"},
        {"unfreeze_after": 2},
    ],
)
def test_a_plan_needs_no_weights_and_is_that_of_the_run(
    random_base: Path, tmp_path: Path, kind: dict[str, Any]
) -> None:
    copied = tmp_path / "base"
    shutil.copytree(random_base, copied, ignore=shutil.ignore_patterns("*.safetensors"))
    asked = TrainRequest(
        condition="canny", data="scenes:12", base=str(copied), settings={**SETTINGS, **kind}
    )
    plan = plan_training(asked, tmp_path / "out")
    whole = prepare(replace(asked, base=str(random_base)), None).plan
    assert plan == replace(whole, base=plan.base)
    assert plan.parameters > 1000


def test_a_run_leaves_a_controlnet_a_log_previews_and_checkpoints(
    random_base: Path, tmp_path: Path
) -> None:
    events: list[object] = []
    looking = {"preview_every": 4, "preview_steps": 2}
    result = start(
        random_base, tmp_path / "run", data="scenes:40", on_event=events.append, **looking
    )
    assert result.controlnet == tmp_path / "run/controlnet"
    described = read_description(result.controlnet)
    for key, value in {"condition": "canny", "hint_channels": 3, "steps": 4, "seed": 5}.items():
        assert described[key] == value
    started = next(event for event in events if not isinstance(event, Loading))
    assert isinstance(started, Started)
    assert (started.plan.examples, started.plan.held_out) == (36, 4)
    looks = [event for event in events if isinstance(event, Previewed)]
    assert [look.step for look in looks] == [0, 4]
    assert (result.fidelity_before, result.fidelity_after) == tuple(look.fidelity for look in looks)
    picture = np.asarray(Image.open(looks[0].path))
    assert picture.shape == (4 * 68 + 4, 3 * 68 + 4, 3)  # 4 examples: hint, with, without prompt
    kinds = [entry["event"] for entry in log(tmp_path / "run")]
    assert kinds == ["start", "preview", "step", "step", "step", "step", "preview"]
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000004"]


@pytest.mark.slow
def test_resumed_is_uninterrupted_bit_for_bit(
    whole: Path, random_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    start(random_base, out, steps=2)
    go_on(out, steps=4)
    assert weights(out) == weights(whole)
    assert log(out)[1:] == log(whole)[1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_saves_says_how_to_go_on_and_is_raised_again(
    whole: Path, random_base: Path, tmp_path: Path, number: int, raised: type[BaseException]
) -> None:
    out = tmp_path / "run"
    events: list[Any] = []
    stop = stop_at(3, number)

    def on_event(event: object) -> None:
        events.append(event)
        stop(event)

    earlier = signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        with pytest.raises(raised):
            start(random_base, out, on_event=on_event)
    finally:
        signal.signal(signal.SIGTERM, earlier)
    assert (
        notes_in(events)[-1]
        == f"saved after step 3 of 4; resume with: cnctl train -o {out} --resume"
    )
    assert read_description(out / "controlnet")["steps"] == 3
    go_on(out)
    assert weights(out) == weights(whole)


@pytest.mark.slow
def test_the_command_saves_on_sigterm_and_goes_on_by_its_own_words(
    whole: Path, random_base: Path, tmp_path: Path
) -> None:
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in SETTINGS.items() if k != "steps"]
    command = [sys.executable, "-m", "cnctl", "train"]
    long = [*command, "--cond=canny", "--data=scenes:12", f"--base={random_base}", *flags]
    with subprocess.Popen(
        [*long, "--steps=4000", "-o", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(tmp_path / "run/checkpoints")
        process.terminate()
        output, errors = process.communicate(timeout=300)
    assert (process.returncode, output) == (143, "")
    assert "resume with: cnctl train -o run --resume" in errors
    assert errors.splitlines()[-1] == "cnctl: terminated"
    done = max(int(p.name[5:]) for p in (tmp_path / "run/checkpoints").iterdir())
    resumed = subprocess.run(
        [*command, "-o", "run", "--resume", f"--steps={done + 1}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (resumed.returncode, resumed.stdout) == (0, "run/controlnet\n")
    assert read_description(tmp_path / "run/controlnet")["steps"] == done + 1


def wait_for(folder: Path, *, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not list(folder.glob("step-*")):
        assert time.monotonic() < end, f"{folder} stays empty"
        time.sleep(0.05)


def test_a_damaged_checkpoint_is_told_and_the_one_before_used(
    whole: Path, random_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    path = out / "checkpoints/step-00000004/optimizer.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    events: list[Any] = []
    go_on(out, events.append)
    assert [line for line in notes_in(events) if "damaged" in line] == [
        f"{path.parent} is damaged (optimizer.safetensors has changed); the previous one is used"
    ]
    assert weights(out) == weights(whole)


def test_resume_begins_where_there_is_nothing_yet(
    whole: Path, random_base: Path, tmp_path: Path
) -> None:
    start(random_base, tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == weights(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, r"learning_rate was 0\.001, not 0\.1"),
        ({"batch_size": 3, "seed": 6}, "batch_size was 2, not 3; seed was 5, not 6"),
        ({"data": "scenes:13"}, "data were 'scenes:12'; what 'scenes:13' holds differs"),
        ({"data": "scenes:11"}, "examples are missing: scenes:11 holds 11 examples"),
        ({"base": "tiny"}, "base was .* not 'tiny'"),
    ],
)
def test_a_resume_that_would_be_another_run_is_refused(
    whole: Path, random_base: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    with pytest.raises(CnctlError, match=message):
        start(changes.pop("base", random_base), out, resume=True, **changes)
    assert weights(out) == weights(whole)


@pytest.mark.slow
def test_averaged_weights_are_exported_and_the_run_goes_on_with_its_own(
    random_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    start(random_base, out, ema=0.5, lr_schedule="cosine")
    kept = load_file(out / "checkpoints/step-00000004/ema.safetensors")
    exported = load_file(next((out / "controlnet").glob("*.safetensors")))
    assert all(torch.equal(exported[name], tensor) for name, tensor in kept.items())
    own = load_file(out / "checkpoints/step-00000004/controlnet.safetensors")
    assert not torch.equal(own["controlnet_mid_block.weight"], kept["controlnet_mid_block.weight"])
    with pytest.raises(CnctlError, match="steps was 4, not 6"):  # the cosine ends with them
        go_on(out, steps=6)


@pytest.mark.slow
def test_a_cache_serves_each_epoch_and_the_run_after(random_base: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    start(random_base, tmp_path / "first", cache=str(cache), data="scenes:4", steps=6)
    entries = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    assert 5 <= len(entries) <= 9  # four images; of four prompts and the empty one what was drawn
    start(random_base, tmp_path / "half", cache=str(cache), data="scenes:4", steps=2)
    go_on(tmp_path / "half", steps=6)
    assert weights(tmp_path / "half") == weights(tmp_path / "first")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == entries


@pytest.mark.slow
def test_generate_takes_up_what_the_base_has_learnt(random_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    start(random_base, out, steps=2)
    go_on(out, steps=4, unfreeze_after=2)
    learnt = load_file(out / "checkpoints/step-00000004/base.safetensors")
    base, canny = load_base(random_base), get_condition("canny")
    control = [ControlSpec(condition="canny")]
    load_controls(
        control,
        Models(base, Adapters(loras=(), embeddings=())),
        GenerateSettings(),
        options=[{}],
        regions=[None],
        named=[NamedControl(canny, str(out))],
        ready=False,
    )
    now = base.denoiser.state_dict()
    assert set(learnt) <= set(now)
    assert all(torch.allclose(now[name], tensor, atol=1e-6) for name, tensor in learnt.items())
    assert not torch.equal(now["conv_out.bias"], load_base(random_base).denoiser.conv_out.bias)
    with pytest.raises(CnctlError, match="was trained together with its base"):
        start(random_base, tmp_path / "next", init_from=str(out))
    with pytest.raises(CnctlError, match="unfreeze_after was 2, not 3"):
        go_on(out, steps=6, unfreeze_after=3)


@pytest.mark.slow
def test_a_run_stops_where_control_sets_in_and_can_go_on(
    random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.12, 0.4, 0.5, 0.6])
    monkeypatch.setattr(previews, "_fidelity", lambda *_: next(scores))
    out = tmp_path / "run"
    events: list[object] = []
    result = start(
        random_base,
        out,
        data="scenes:20",
        steps=4,
        preview_every=1,
        preview_steps=1,
        on_convergence="stop",
        tracker="tensorboard",
        on_event=events.append,
    )
    assert (result.steps, result.converged) == (3, 2)
    assert Converged(2) in events
    assert [entry for entry in log(out) if entry["event"] == "convergence"] == [
        {"event": "convergence", "step": 2}
    ]
    page = result.report.read_text()
    assert "Converged at step 2." in page
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.replace("http://www.w3.org", "")
    assert list((out / "tracker").rglob("events.out.tfevents.*"))
    assert go_on(out).steps == 4
    assert sum(entry["event"] == "convergence" for entry in log(out)) == 1


@pytest.mark.slow
def test_a_run_takes_larger_batches_where_control_sets_in_and_resumes_so(
    random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [0.1, 0.12, 0.4, 0.5, 0.6, 0.6]
    monkeypatch.setattr(previews, "_fidelity", lambda *_: known[len(seen)])
    changes = {
        "data": "scenes:20",
        "steps": 5,
        "preview_every": 1,
        "preview_steps": 1,
        "on_convergence": "accumulate=3",
        "on_event": lambda event: isinstance(event, Previewed) and seen.append(event.step),
    }
    seen: list[int] = []
    start(random_base, tmp_path / "whole", **changes)
    grown = [entry for entry in log(tmp_path / "whole") if entry["event"] == "growth"]
    assert grown == [{"event": "growth", "step": 4, "batch": 6}]
    page = (tmp_path / "whole/report.html").read_text()
    assert "Batches of 6 from step 4 on." in page
    assert ">batch 6, 4</text>" in page
    for cut in (3, 4):  # at the change, and after it
        out, seen = tmp_path / f"cut-{cut}", []
        notice = changes["on_event"]

        def stop(event: object, cut: int = cut, notice: Any = notice) -> None:
            notice(event)
            stop_at(cut, signal.SIGINT)(event)

        with pytest.raises(KeyboardInterrupt):
            start(random_base, out, **changes | {"on_event": stop})
        assert len(seen) == cut  # the interrupt left out the preview of that step
        train(TrainRequest(), out, resume=True, on_event=notice)  # type: ignore[arg-type]
        assert weights(out) == weights(tmp_path / "whole")
        assert log(out)[1:] == log(tmp_path / "whole")[1:]


@pytest.mark.slow
def test_a_batch_may_be_split_otherwise_later(random_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    start(random_base, out, steps=1)
    events: list[Any] = []
    go_on(out, events.append, steps=2, batch_size=1, gradient_accumulation=2)
    split = "batch_size 2 -> 1, gradient_accumulation 1 -> 2"
    assert any(f"changed since the start: {split}; the " in line for line in notes_in(events))
    assert log(out)[-1]["step"] == 2
    with pytest.raises(CnctlError, match="gradient_accumulation was 2, not 3"):
        go_on(out, steps=3, gradient_accumulation=3)


@pytest.mark.slow
def test_steps_that_are_reached_already_are_said(random_base: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    start(random_base, tmp_path / "run", steps=2)
    assert go_on(tmp_path / "run", events.append, steps=1).steps == 2
    assert (
        "step 2 of 1 is reached: nothing is left to train; a larger --steps continues the run"
        in notes_in(events)
    )


@pytest.mark.slow
def test_a_control_lora_is_small_resumes_generates_and_merges(
    random_base: Path, tmp_path: Path
) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    result = start(random_base, whole, lora=2)
    start(random_base, half, lora=2, steps=2)
    assert go_on(half).steps == 2
    go_on(half, steps=4)
    assert result.controlnet == whole / "controlnet.safetensors"
    assert result.controlnet.read_bytes() == (half / "controlnet.safetensors").read_bytes()

    base, canny = load_base(random_base), get_condition("canny")
    opened = open_control(canny, base, weights=str(whole)).state_dict()
    fresh = build_controlnet(base.denoiser, seed=5).state_dict()
    kept = load_file(whole / "checkpoints/step-00000004/controlnet.safetensors")
    name = "mid_block.attentions.0.proj_in"
    up, down = (kept[f"{name}.lora_{x}.default.weight"].flatten(1) for x in "BA")
    learnt = fresh[f"{name}.weight"] + (up @ down).view_as(fresh[f"{name}.weight"])
    torch.testing.assert_close(opened[f"{name}.weight"], learnt)
    assert torch.equal(opened[f"{name}.bias"], fresh[f"{name}.bias"])
    for link in ("controlnet_mid_block.weight", "controlnet_cond_embedding.conv_in.weight"):
        assert torch.equal(opened[link], kept[link])
    size = sum(tensor.numel() * 4 for tensor in opened.values())
    assert result.controlnet.stat().st_size < 0.6 * size

    convert(
        ConvertRequest(
            sources=whole, target=tmp_path / "merged", to="diffusers", base=str(random_base)
        )
    )
    merged = ControlNetModel.from_pretrained(tmp_path / "merged").state_dict()
    assert all(torch.equal(merged[name], tensor) for name, tensor in opened.items())
    with pytest.raises(CnctlError, match="a Control-LoRA starts from the base"):
        start(random_base, tmp_path / "next", lora=2, init_from=str(whole))


@pytest.mark.slow
def test_middle_first_then_all(random_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    start(random_base, out, connect="middle", steps=2)
    links = lambda: {  # noqa: E731
        name: bool(tensor.any())
        for name, tensor in load_file(next((out / "controlnet").glob("*.safetensors"))).items()
        if name.startswith("controlnet_down_blocks")
    }
    assert not any(links().values())
    go_on(out, connect="all", steps=4)
    assert all(links().values())
    with pytest.raises(CnctlError, match="connect was 'all', not 'middle'"):
        go_on(out, connect="middle", steps=6)


def test_a_run_starts_from_given_weights(whole: Path, random_base: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    start(random_base, tmp_path / "run", init_from=str(whole), steps=1, on_event=events.append)
    assert next(e.plan.start for e in events if isinstance(e, Started)) == str(whole)
    after, before = (
        load_file(next((out / "controlnet").glob("*.safetensors")))
        for out in (tmp_path / "run", whole)
    )
    assert after.keys() == before.keys()
    # AdamW's first step moves each weight by no more than the learning rate and a little decay.
    assert all((after[n] - before[n]).abs().max() < 2e-3 for n in after)
    assert after["controlnet_mid_block.weight"].any()
    run = tmp_path / "run"
    with pytest.raises(CnctlError, match=r"init_from was '.*', not 'canny'"):
        train(TrainRequest(init_from="canny", settings={"steps": 2}), run, resume=True)
    assert plan_training(TrainRequest(settings={"steps": 2}), run, resume=True).start == str(whole)


@pytest.mark.slow
def test_a_resumed_run_keeps_the_form_that_it_started_from(
    whole: Path, random_base: Path, tmp_path: Path
) -> None:
    """Only the config says that residuals are averaged, and it was lost."""
    start_folder = Path(shutil.copytree(whole / "controlnet", tmp_path / "start"))
    config = json.loads((start_folder / "config.json").read_text())
    (start_folder / "config.json").write_text(json.dumps(config | {"global_pool_conditions": True}))
    begin = partial(start, random_base, init_from=str(start_folder), checkpoint_every=1)
    begin(tmp_path / "run", steps=1)
    go_on(tmp_path / "run", steps=2)
    begin(tmp_path / "uninterrupted", steps=2)
    resumed, expected = (
        load_file(next((tmp_path / name / "controlnet").glob("*.safetensors")))
        for name in ("run", "uninterrupted")
    )
    assert all(torch.equal(resumed[name], tensor) for name, tensor in expected.items())
    written = json.loads((tmp_path / "run" / "controlnet" / "config.json").read_text())
    assert written["global_pool_conditions"]
    shutil.rmtree(start_folder)
    with pytest.raises(MissingError, match=r"started from .*start, which gives the form"):
        go_on(tmp_path / "run", steps=3)


@pytest.mark.parametrize("changed", [{"hint_encoder": "paper"}, {"hint_start": "torch"}])
def test_the_form_of_a_controlnet_to_start_from_is_not_chosen(
    whole: Path, random_base: Path, tmp_path: Path, changed: dict[str, str]
) -> None:
    asked = TrainRequest(
        condition="canny", data="scenes:12", base=str(random_base), init_from=str(whole),
        settings=SETTINGS | changed,
    )  # fmt: skip
    with pytest.raises(CnctlError, match="is for a ControlNet that starts from the base"):
        plan_training(asked, tmp_path / "run")


@pytest.mark.slow
def test_a_config_is_given_for_weights_to_start_from(
    whole: Path, random_base: Path, tmp_path: Path
) -> None:
    written = next((whole / "controlnet").glob("*.safetensors"))
    save_file(load_file(written), tmp_path / "x.safetensors")  # without metadata
    asked = TrainRequest(
        condition="canny", data="scenes:12", base=str(random_base), settings=SETTINGS,
        init_from=str(tmp_path / "x.safetensors"),
    )  # fmt: skip
    with pytest.raises(CnctlError, match="number of attention heads"):
        plan_training(asked, tmp_path / "run")
    asked = replace(asked, config=str(whole / "controlnet" / "config.json"))
    assert plan_training(asked, tmp_path / "run").start == asked.init_from
    with pytest.raises(CnctlError, match="--config is for the weights of --init-from"):
        plan_training(replace(asked, init_from=None), tmp_path / "run")


def test_the_plan_says_what_the_paper_starts_from(random_base: Path, tmp_path: Path) -> None:
    asked = TrainRequest(
        condition="hough", data="scenes:12", base=str(random_base), settings=SETTINGS
    )
    start = plan_training(asked, tmp_path / "run").start
    assert start.startswith("a copy of the base; the paper's is the ControlNet for canny (--init")


def test_a_loss_that_is_no_number_names_the_batch_and_what_is_kept(
    whole: Path, random_base: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(whole / "controlnet", broken)
    path = next(broken.glob("*.safetensors"))
    tensors = load_file(path)
    tensors["controlnet_mid_block.bias"][0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(
        DivergedError, match=r"^the loss is nan at step 1 \(scene \d+, scene \d+\)$"
    ) as caught:
        start(random_base, tmp_path / "run", init_from=str(broken))
    assert "learning rate" in caught.value.hint


@pytest.mark.slow
def test_own_pairs_in_a_folder(random_base: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for name in "abc":
        image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        write_image(tmp_path / f"set/{name}.png", image)
        write_hint(tmp_path / f"set/{name}-hint.png", image[..., :1])
        entry = {"image": f"{name}.png", "hint": f"{name}-hint.png", "prompt": name}
        lines.append(json.dumps(entry))
    index = tmp_path / "set/metadata.jsonl"
    index.write_text("\n".join(lines))
    events: list[Any] = []
    start(random_base, tmp_path / "run", data=str(tmp_path / "set"), on_event=events.append)
    assert any("too few examples to hold any out" in line for line in notes_in(events))
    index.write_text("\n".join(lines[:2]))
    with pytest.raises(
        CnctlError, match=r"examples are missing: .* holds 2 examples, this run was"
    ):
        go_on(tmp_path / "run", steps=6)
    (tmp_path / "set/a.png").unlink()
    with pytest.raises(CnctlError, match=r"1 of its files are missing, the first is .*a\.png"):
        start(random_base, tmp_path / "other", data=str(tmp_path / "set"))
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_workers_do_not_change_the_result(whole: Path, random_base: Path, tmp_path: Path) -> None:
    start(random_base, tmp_path / "run", workers=2)
    assert weights(tmp_path / "run") == weights(whole)


def test_a_folder_in_use_or_not_empty_is_refused(
    whole: Path, random_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="holds a training run") as caught:
        start(random_base, whole)
    assert "--resume resumes it" in caught.value.hint
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/one.txt").touch()
    with pytest.raises(OutputError, match="is not empty"):
        start(random_base, tmp_path / "letters")
    with pytest.raises(OutputError, match="holds no training run"):
        start(random_base, tmp_path / "letters", resume=True)
    with pytest.raises(OutputError, match="is not a folder"):
        start(random_base, tmp_path / "letters/one.txt")
    with pytest.raises(OutputError, match="is not a UTF-8 path"):
        start(random_base, tmp_path / "caf\udce9")
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
    with pytest.raises(CnctlError, match="no condition is named"):
        go_on(tmp_path / "new")
    assert os.listdir(tmp_path) == ["letters"]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("steps", 0, "--steps is 0; it must be at least 1"),
        ("learning_rate", -1.0, "it must be more than 0 and less than 1"),
        ("gradient_accumulation", 0, "it must be at least 1"),
        ("lr_warmup", 5, "it must be at most the number of steps, 4"),
        ("lr_schedule", "linear", "it must be constant or cosine"),
        ("max_grad_norm", -1.0, "it must be at least 0"),
        ("max_grad_norm", float("nan"), "it must be at least 0"),
        ("snr_gamma", float("nan"), "it must be at least 0"),
        ("ema", 1.0, "it must be at least 0 and less than 1"),
        ("on_convergence", "rest", "it must be continue, stop, or accumulate=N"),
        ("tracker", "tensorbord", "unknown tracker 'tensorbord'"),
        ("unfreeze", "encoder", "it must be decoder or all"),
        ("resolution", 65, "it must be a multiple of 8"),
        ("connect", "some", "it must be all or middle"),
    ],
)
def test_settings_out_of_range(
    loaded_random_base: Base, setting: str, value: object, message: str
) -> None:
    asked = {**SETTINGS, setting: value}
    with pytest.raises(CnctlError, match=message):
        check_settings(
            resolve_settings(get_condition("canny"), loaded_random_base, asked), loaded_random_base
        )


def test_a_plan_tells_what_would_be_trained_and_writes_nothing(
    random_base: Path, tmp_path: Path
) -> None:
    asked = TrainRequest(
        condition="canny", data="scenes:100", base=str(random_base), settings=SETTINGS
    )
    plan = plan_training(asked, tmp_path / "run")
    assert (plan.examples, plan.held_out, plan.epochs) == (90, 10, 8 / 90)
    assert plan.hints == "0 given, 100 detected during training"
    mapped = plan_training(replace(asked, condition="depth"), tmp_path / "run")
    assert mapped.hints == "0 given, 100 made from the scenes' own maps"
    assert plan.as_dict()["learning_rate"] == 1e-3
    assert any(f"{plan.parameters:,} parameters" in line for line in plan.lines())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_part_of_the_data_is_trained_on_and_part_of_the_run(
    random_base: Path, tmp_path: Path
) -> None:
    entries = []
    for number in range(12):
        image = np.random.default_rng(number).integers(0, 256, (64, 64 + number, 3), np.uint8)
        write_image(tmp_path / f"set/{number}.png", image)
        entries.append(json.dumps({"image": f"{number}.png", "prompt": "noise"}))
    (tmp_path / "set/metadata.jsonl").write_text("\n".join(entries))
    data, part = str(tmp_path / "set"), {"largest": 6, "sample": 4}
    start(random_base, tmp_path / "run", data=data, held_out=0, **part)
    run = json.loads(next((tmp_path / "run").glob("checkpoints/*/state.json")).read_text())["run"]
    assert run["examples"] == 4
    with pytest.raises(CnctlError, match="sample was 4, not 3"):
        go_on(tmp_path / "run", sample=3)
    stages: list[Any] = []
    report = check_data(
        "canny", data, base=str(random_base), resolution=64, largest=6, on_event=stages.append
    )
    assert stages[-1] == Stage("checking", 6, 6)
    assert sorted(width for _, width in report.sizes) == list(range(70, 76))


def test_the_disk_that_is_expected_is_taken(whole: Path, random_base: Path, tmp_path: Path) -> None:
    asked = TrainRequest(
        condition="canny", data="scenes:12", base=str(random_base), settings=SETTINGS
    )
    plan = plan_training(asked, tmp_path / "run")
    checkpoint, exported = (
        sum(path.stat().st_size for path in (whole / part).glob("*.safetensors"))
        for part in ("checkpoints/step-00000004", "controlnet")
    )
    assert plan.disk == pytest.approx(3 * checkpoint + exported, rel=0.1)


def test_a_check_reads_all_and_trains_nothing(random_base: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "plain.png", np.full((64, 64, 3), 90, np.uint8))
    entries = [{"image": "plain.png", "prompt": "plain"}, {"image": "gone.png", "prompt": "gone"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))
    report = check_data("canny", str(tmp_path), base=str(random_base), resolution=64)
    assert [str(problem) for problem in report.problems] == [
        "plain.png: the hint is blank: every value is 0",
        "gone.png: no such file",
    ]
    assert report.fatal == 1
    assert sorted(os.listdir(tmp_path)) == ["metadata.jsonl", "plain.png"]


def write_hinted_set(folder: Path, *, count: int) -> str:
    """A data set of noise with ready hints."""
    lines = []
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_image(folder / f"{number}.png", image)
        write_hint(folder / f"{number}-hint.png", image[..., :1])
        entry = {"image": f"{number}.png", "hint": f"{number}-hint.png", "prompt": "noise"}
        lines.append(json.dumps(entry))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return str(folder)


@pytest.mark.slow
def test_fidelity_that_cannot_be_measured_is_said_and_keeps_no_run_waiting(
    random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    data, out = write_hinted_set(tmp_path / "set", count=10), tmp_path / "run"
    looking = {"condition": "hed", "data": data, "preview_every": 4, "preview_steps": 1}
    with pytest.raises(CnctlError, match=r"--on-convergence stop needs fidelity.*hed needs .*"):
        start(random_base, out, on_convergence="stop", **looking)
    assert not out.exists()
    events: list[Any] = []
    result = start(random_base, out, on_event=events.append, **looking)
    plan = next(event.plan for event in events if isinstance(event, Started))
    assert plan.fidelity.startswith("not measured: hed needs ")
    assert plan.fidelity.endswith(
        "cnctl models pull hed, or name your own folder in CNCTL_DETECTORS"
    )
    assert result.fidelity_after is None
    assert result.missing in plan.fidelity
    assert "Fidelity was not measured: hed needs " in result.report.read_text()
    assert len(list((out / "previews").iterdir())) == 2


@pytest.mark.parametrize("nothing", [{"preview_every": 0}, {"preview_every": 1, "held_out": 0}])
def test_waiting_for_convergence_without_previews_is_refused(
    random_base: Path, tmp_path: Path, nothing: dict[str, int]
) -> None:
    with pytest.raises(CnctlError, match="needs fidelity, which is not measured: no "):
        start(random_base, tmp_path / "run", on_convergence="stop", **nothing)
