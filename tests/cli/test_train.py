"""The words of `cnctl train`; what it does is tested with its job."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.cli import app
from cnctl.errors import CnctlError, OutputError, SomeInputsFailed
from cnctl.images import write_image

SMALL = ["--steps=2", "--batch-size=1", "--preview-every=2", "--held-out=1"]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cnctl(*arguments: object) -> None:
    app([str(argument) for argument in arguments], standalone_mode=False)


@pytest.mark.slow
def test_stdout_is_the_folder_and_stderr_all_else(
    random_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cnctl("train", "--cond=canny", "--data=scenes:10", f"--base={random_base}", "-o", "r", *SMALL)
    output, errors = capsys.readouterr()
    assert output == "r/controlnet\n"
    lines = errors.splitlines()
    assert any(line.startswith("data        scenes:10: 9 examples") for line in lines)
    assert any(line.startswith("step 2: edge_f1 0.") for line in lines)
    assert lines[-3].startswith("edge_f1 on held-out examples: 0.")
    assert lines[-2] == "report: r/report.html"
    use = f"cnctl generate --cond canny --control r --base {random_base} photo.jpg -p PROMPT"
    assert lines[-1] == f"use it: {use}"
    with pytest.raises(OutputError, match="r holds a training run"):
        cnctl("train", "--cond=canny", "--data=scenes:10", f"--base={random_base}", "-o", "r")


def test_quiet_json_is_one_document(random_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--json", "-q", "--preview-every=0"]
    cnctl("train", "--cond=canny", "--data=scenes:2", f"--base={random_base}", *SMALL[:2], *flags)
    output, errors = capsys.readouterr()
    document = json.loads(output)
    assert (document["controlnet"], document["steps"]) == ("run/controlnet", 2)
    assert document["fidelity_after"] is None
    assert errors == ""


def test_dry_run_says_what_would_be_trained(
    random_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--base={random_base}", "--dry-run", "--steps=7"]
    cnctl("train", "--cond=canny", "--data=scenes:20", *flags)
    assert "steps       7 of batch 4" in capsys.readouterr().out
    cnctl("train", "--cond=canny", "--data=scenes:20", *flags, "--json")
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["steps"], plan["examples"], plan["held_out"]) == (7, 18, 2)
    assert plan["fidelity"] == "edge_f1 on 2 examples, every 100 steps"
    assert list(tmp_path.iterdir()) == []


def test_check_names_what_is_wrong_and_exits_with_3(
    random_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "set/a.png", np.full((64, 64, 3), 9, np.uint8))
    lines = [json.dumps({"image": name, "prompt": "p"}) for name in ("a.png", "b.png")]
    (tmp_path / "set/metadata.jsonl").write_text("\n".join(lines))
    flags = ["--cond=canny", "--data=set", f"--base={random_base}", "--resolution=64", "--check"]
    with pytest.raises(SomeInputsFailed, match="training would stop at 1 of 2 examples"):
        cnctl("train", *flags)
    output, errors = capsys.readouterr()
    assert output.splitlines() == [
        "a.png: the hint is blank: every value is 0",
        "b.png: no such file",
    ]
    assert "2 examples (1 of 64 x 64), 1 without a hint; 2 problems, 1 of them" in errors
    with pytest.raises(SomeInputsFailed):
        cnctl("train", *flags, "--json")
    assert json.loads(capsys.readouterr().out)["problems"][1]["fatal"]


def write_set(folder: Path, *entries: dict[str, str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("a", "h"):
        write_image(folder / f"{name}.png", noise, overwrite=True)
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, entries)))


def test_the_plan_counts_hints_and_prompts_and_names_what_is_not_read(
    random_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {"image": "a.png", "control": "h.png", "prompt": "a ball", "size": "64"}
    write_set(tmp_path / "set", whole, whole, {"image": "a.png", "prompt": ""})
    flags = ["--cond=canny", "--data=set", f"--base={random_base}", "--resolution=64"]
    with pytest.raises(CnctlError, match="2 of 3 examples have no hint, and 'control'") as caught:
        cnctl("train", *flags, "--dry-run")
    assert "--columns hint=NAME" in caught.value.hint
    cnctl("train", *flags, "--dry-run", "--columns=hint=control")
    lines = capsys.readouterr().out.splitlines()
    assert "hints       2 given, 1 detected during training" in lines
    assert "prompts     2 given, 1 empty" in lines
    named = "set/metadata.jsonl: columns that are not read: size (--columns maps them)"
    assert f"note        {tmp_path}/{named}" in lines
    cnctl("train", *flags, "--check", "--columns=hint=control")
    assert capsys.readouterr().out.splitlines()[0] == named
    cnctl("train", *flags, "--check", "--columns=hint=control", "--json")
    assert json.loads(capsys.readouterr().out)["detected"] == 1


def test_check_lists_what_keeps_a_run_from_starting(
    random_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "set", {"image": "a.png", "control": "h.png", "prompt": "a ball"})
    flags = ["--cond=canny", "--data=set", f"--base={random_base}", "--resolution=64", "--check"]
    with pytest.raises(SomeInputsFailed, match="training would not start with these data"):
        cnctl("train", *flags)
    assert "'control', which holds images, is not read" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_keeps_its_columns_when_it_is_resumed(
    random_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"file": "a.png", "control": "h.png", "title": "a ball"}
    write_set(tmp_path / "set", entry, entry)
    flags = ["--cond=canny", "--data=set", f"--base={random_base}", "--preview-every=0"]
    columns = "--columns=image=file,hint=control,prompt=title"
    cnctl("train", *flags, *SMALL[:2], "--resolution=64", columns, "-o", "r")
    cnctl("train", "-o", "r", "--resume", "--steps=3", "--base", random_base)
    assert capsys.readouterr().out == "r/controlnet\n" * 2
    with pytest.raises(CnctlError, match="columns was 'image=file,hint=control,prompt=title', not"):
        cnctl("train", "-o", "r", "--resume", "--columns=image=file")
