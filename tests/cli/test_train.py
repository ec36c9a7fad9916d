"""The words of `cnctl train`; what it does is tested with its job."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.cli import app
from cnctl.errors import OutputError, SomeInputsFailed
from cnctl.images import write_image

SMALL = ["--steps=2", "--batch-size=1", "--preview-every=2", "--held-out=1"]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cnctl(*arguments: object) -> None:
    app([str(argument) for argument in arguments], standalone_mode=False)


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
    assert lines[-1] == "use it: cnctl generate --cond canny --control r photo.jpg -p PROMPT"
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
    assert json.loads(capsys.readouterr().out)["plan"]["steps"] == 7
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
    assert "2 examples (1 of 64 x 64)" in errors
    with pytest.raises(SomeInputsFailed):
        cnctl("train", *flags, "--json")
    assert json.loads(capsys.readouterr().out)["problems"][1]["fatal"]
