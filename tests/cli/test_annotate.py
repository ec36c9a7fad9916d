"""cnctl annotate: what is on stdout, what is on stderr, what is loaded."""

import ast
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cnctl.cli as cnctl_cli
from cnctl.images import read_hint, read_image


def test_one_path_per_line_and_nothing_else(cnctl_process, photo, tmp_path):
    run = cnctl_process("annotate", "--cond", "canny", photo)
    assert (run.returncode, run.stdout, run.stderr) == (0, "out/photo-canny.png\n", "")
    assert read_hint(tmp_path / "out/photo-canny.png", channels=3).shape == (512, 680, 3)


def test_a_batch_with_failures_is_one_json_document_and_exit_3(cnctl, photo, tmp_path):
    (tmp_path / "set/sub").mkdir(parents=True)
    content = (tmp_path / photo).rename(tmp_path / "set/sub/a.png").read_bytes()
    (tmp_path / "set/bad.jpg").write_bytes(b"no image")
    run = cnctl("annotate", "--cond", "canny", "set", "--resolution", "64", "--json")
    document = json.loads(run.stdout)
    assert run.returncode == 3
    assert document["hints"] == [
        {
            "path": "out/sub/a-canny.png",
            "image": "set/sub/a.png",
            "condition": "canny",
            "options": {"low_threshold": 100, "high_threshold": 200},
            "resolution": 64,
            "source_sha256": hashlib.sha256(content).hexdigest(),
            "skipped": False,
        }
    ]
    sentence = "set/bad.jpg is a text file, not an image in a supported format"
    assert document["failed"] == [{"image": "set/bad.jpg", "error": sentence}]
    assert run.stderr.splitlines() == [f"cnctl: {sentence}", "cnctl: 1 of 2 images failed"]


def test_a_repeated_run_says_what_was_there(cnctl, photo):
    first = cnctl("annotate", "--cond", "canny", photo, "--resolution", "64")
    again = cnctl("annotate", "--cond", "canny", photo, "--resolution", "64")
    assert again.stdout == first.stdout
    assert again.stderr == "1 hint exists already; --overwrite replaces it\n"


def test_what_was_made_before_an_interruption_has_been_printed(
    photo, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.png").write_bytes((tmp_path / photo).read_bytes())
    synced = []

    def interrupt(descriptor):
        synced.append(descriptor)
        if len(synced) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    words = ["annotate", "--cond", "canny", "b.png", "photo.png", "--resolution", "64", "-q"]
    with pytest.raises(SystemExit) as left:
        cnctl_cli.main(words)
    assert left.value.code == 130
    assert capsys.readouterr().out == "out/b-canny.png\n"


def test_a_pipe_through_stdin_and_stdout(command, photo, tmp_path):
    words = ["annotate", "--cond", "canny", "-", "-o", "-", "--resolution", "64"]
    with command(*words, stdin=subprocess.PIPE) as process:
        output, errors = process.communicate((tmp_path / photo).read_bytes())
    assert (process.returncode, errors) == (0, b"")
    assert read_image(output).shape == (64, 88, 3)
    assert os.listdir(tmp_path) == ["photo.png"]


def test_a_data_set(cnctl, photo, tmp_path):
    rules = [f"--rule={name}=off" for name in ("short-side", "contrast", "edge-density")]
    words = ("annotate", "--cond", "canny", photo, "--dataset", *rules, "-o", "set", "-p", "a box")
    plan = cnctl(*words, "--dry-run")
    assert plan.stdout.splitlines()[0] == "inputs      1"
    assert plan.stdout.splitlines()[-1] == "output      set: 1 folder, up to 100 inputs in each"
    assert not (tmp_path / "set").exists()
    run = cnctl(*words, "--workers", "0")
    assert (run.returncode, run.stdout) == (0, "1 of 1 images are in set\n")
    row = json.loads((tmp_path / "set/train/metadata.jsonl").read_text())
    files = (row["image_file_name"], row["hint_file_name"], row["prompt"])
    assert files == ("000000/000000000.png", "000000/000000000.hint.png", "a box")
    assert set(row["options"]) == {"low_threshold", "high_threshold"}
    assert "; 1 there already" in cnctl(*words, "--dry-run").stdout
    empty = cnctl(*words[:-4], "-o", "other", "--workers", "0")
    assert empty.returncode == 3
    assert empty.stdout == "0 of 1 images are in other, 1 left out: 1 no caption\n"
    assert "1 image has no caption; --caption or --prompt gives one" in empty.stderr


@pytest.mark.slow
def test_names_that_are_no_utf8(cnctl_process, photo, tmp_path, environment):
    environment["PYTHONIOENCODING"] = "utf-8:strict"  # as in a desktop's locale
    odd = os.fsdecode(b"\xff\xfe.png")
    (tmp_path / photo).rename(tmp_path / odd)
    run = cnctl_process("annotate", "--cond", "canny", odd, "--resolution", "64")
    assert (run.returncode, run.stderr) == (0, "")
    assert os.fsencode(run.stdout) == b"out/\xff\xfe-canny.png\n"
    document = json.loads(
        cnctl_process(
            "annotate", "--cond", "canny", odd, "--json", "-q", "--resolution", "64"
        ).stdout
    )
    assert document["hints"][0]["image"] == odd


SCRIPT = """
import sys
from cnctl.cli import main
sys.argv[0] = "cnctl"
try:
    main()
except SystemExit as leave:
    print(leave.code, *sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""


def loaded_by(*arguments: str, heavy: set[str], **settings) -> tuple[list[str], list[str]]:
    """Lines on stdout; exit code and which of `heavy` were loaded."""
    words = [sys.executable, "-c", SCRIPT.format(heavy=heavy), *arguments]
    run = subprocess.run(words, capture_output=True, text=True, check=True, **settings)
    return run.stdout.split(), run.stderr.split()


def test_canny_loads_neither_torch_nor_diffusers(photo, tmp_path, environment):
    heavy = {"torch", "diffusers", "transformers", "controlnet_aux", "rich"}
    words = ["annotate", "--cond", "canny", "photo.png"]
    output, loaded = loaded_by(*words, heavy=heavy, cwd=tmp_path, env=environment)
    assert (output, loaded) == (["out/photo-canny.png"], ["0"])


def test_condition_names_are_completed_without_loading_anything(environment):
    typed = {"COMP_WORDS": "cnctl annotate --cond cann", "COMP_CWORD": "3"}
    variables = environment | typed | {"_CNCTL_COMPLETE": "complete_bash"}
    output, loaded = loaded_by(heavy={"torch", "numpy", "cv2", "PIL"}, env=variables)
    assert (output, loaded) == (["canny"], ["0"])


def test_the_body_of_the_command_is_short():
    """Parse, call one job, print: about a dozen statements, nested ones counted."""
    tree = ast.parse(Path(cnctl_cli.__file__).with_name("annotate.py").read_text())
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef))
    statements = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    assert len(statements) <= 16


@pytest.mark.slow
def test_a_broken_plugin_leaves_the_hints_of_other_conditions(
    tmp_path, cnctl_process, environment, photo
):
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[cnctl.conditions]\nbad = no_such_module:bad\n")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    result = cnctl_process(
        "annotate", "--cond", "bad,canny", photo, env=environment | {"PYTHONPATH": paths}
    )
    assert result.returncode == 3
    assert result.stdout.splitlines() == ["out/photo-canny.png"]
    reason, summary = result.stderr.splitlines()
    assert "condition 'bad' (bad 1.0) failed to import: ModuleNotFoundError" in reason
    assert summary == "cnctl: condition bad failed"
    assert (tmp_path / "out" / "photo-canny.png").is_file()
    result = cnctl_process("annotate", "--cond", "cany,canny", photo)
    assert result.returncode == 2


SHARDS = ("--dataset", "--shards", "2", "--resolution", "64", "--rule", "short-side=off", "-p", "x")


def test_shards_say_what_they_hold(cnctl, photo, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / photo).rename(tmp_path / "set/a.png")
    (tmp_path / "set/bad.jpg").write_bytes(b"no image")
    words = ("annotate", "--cond", "canny", "set", *SHARDS, "--workers", "0")
    run = cnctl(*words, "--json")
    assert run.returncode == 3
    assert json.loads(run.stdout) == {
        "out": "out",
        "rows": 2,
        "done": 1,
        "left_out": {"cannot be decoded": 1},
        "several_frames": 0,
        "shards": 1,
        "shards_left": 0,
        "was_done": False,
    }
    assert run.stderr == "cnctl: 1 of 2 inputs failed; records/ says why\n"
    (tmp_path / "set/bad.jpg").unlink()
    good = cnctl(*words, "-o", "good")
    assert (good.returncode, good.stdout) == (0, "1 of 1 images are in good\n")
    assert "nothing was left to do" in cnctl(*words, "-o", "good").stderr


def test_progress_of_shards_is_plain_lines_without_a_terminal(cnctl, photo, monkeypatch):
    monkeypatch.setattr("cnctl.cli.report.PLAIN_SECONDS", 0.0)
    run = cnctl("annotate", "--cond", "canny", photo, *SHARDS, "--workers", "0")
    assert run.returncode == 0
    line, *_ = run.stderr.splitlines()
    assert line.startswith("annotating: 100%, 1 of 1 images, ")
    assert " a second" in line
    assert not run.stderr.count("\x1b")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--compare",), "--dataset and --compare cannot be combined"),
        (("--images", "link"), "tar files hold no links"),
        (("--shard-range", "1"), "--shard-range is 1; it must be a range of numbers"),
        (("--rule", "beauty=1.."), "--rule beauty=1..: no such rule"),
        (("--subsets", "1,a"), "--subsets is 1,a; it must be numbers"),
    ],
)
def test_contradictions_of_shards_are_refused_before_any_work(cnctl, photo, tmp_path, words, error):
    run = cnctl("annotate", "--cond", "canny", photo, *SHARDS, *words)
    assert run.returncode == 2
    assert error in run.stderr
    assert not (tmp_path / "out").exists()
