"""What may not be loaded for help, version and completion: looked up in sys.modules, not timed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PICTURE = str(Path(__file__).parents[1] / "examples/images/cat.jpg")
HEAVY = {
    "PIL",
    "accelerate",
    "controlnet_aux",
    "cv2",
    "diffusers",
    "numpy",
    "torch",
    "transformers",
}

SCRIPT = """
import sys
from cnctl.cli import main
for arguments in {lines!r}:
    try:
        main(arguments)
    except SystemExit as leave:
        code = leave.code or 0
    print("\\nLOADED", code, *sorted({heavy!r} & set(sys.modules)))
"""


def loaded_by(*arguments: str, heavy: set[str] = HEAVY) -> tuple[int, list[str], str]:
    """Exit code, heavy modules that are loaded, and stdout."""
    [loaded] = loaded_by_each([arguments], heavy=heavy)
    return loaded


def loaded_by_each(
    lines: list[tuple[str, ...]], *, heavy: set[str] = HEAVY
) -> list[tuple[int, list[str], str]]:
    """The same of several command lines, one after another in one process."""
    script = SCRIPT.format(lines=lines, heavy=heavy)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = re.findall(r"(.*?)\nLOADED (\d+)(.*?)\n", run.stdout, re.DOTALL)
    assert len(found) == len(lines)
    return [(int(code), modules.split(), output) for output, code, modules in found]


def test_loads_nothing_heavy() -> None:
    lines: list[tuple[str, ...]] = [
        ("--help",),
        ("--version",),
        ("--version", "-v"),
        ("-v", "--version"),
        ("annotate", "--help"),
        ("train", "--help"),
        ("generate", "--help"),
        ("convert", "--help"),
        ("conditions",),
    ]
    for arguments, (code, modules, output) in zip(lines, loaded_by_each(lines), strict=True):
        assert (code, modules) == (0, []), arguments
        assert output.strip()


@pytest.mark.parametrize("arguments", [("--help",), ("generate", "--help")], ids=" ".join)
def test_help_loads_no_more_than_it_shows(arguments: tuple[str, ...]) -> None:
    """Each of these would take longer than all else: 150 ms are the limit on an idle core."""
    slow = {"pydantic", "rich", "huggingface_hub", "cnctl.cli.train", "cnctl.registry"}
    _, modules, _ = loaded_by(*arguments, heavy=slow)
    assert modules == []


def test_without_a_command_help_goes_to_stderr() -> None:
    command = [sys.executable, "-m", "cnctl"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("Usage: ")


def test_version_names_the_libraries_when_asked() -> None:
    from importlib.metadata import version

    _, _, output = loaded_by("--version")
    assert output.split() == ["cnctl", version("cnctl")]
    _, _, output = loaded_by("--version", "-v")
    lines = dict(line.split(" ", 1) for line in output.strip().splitlines())
    assert lines["torch"] == version("torch")
    assert lines["diffusers"] == version("diffusers")


def test_completes_condition_names_without_torch() -> None:
    script = (
        "import sys; from cnctl.cli.complete import complete_condition;"
        f"print(complete_condition('can'), sorted({HEAVY!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['canny'] []"


def test_answers_a_mistyped_name_before_torch_is_imported() -> None:
    lines: list[tuple[str, ...]] = [
        ("generate", "--cond", "canny", "missing.jpg", "-p", "a cat"),
        ("generate", "--cond", "cany", "-p", "a cat"),
        ("generate", "--cond", "canny", PICTURE, "-p", "a cat", "--control", PICTURE),
        ("train", "--cond", "canny", "--data", "missing"),
        ("train", "--cond", "canny", "--data", "scenes:9", "--base", "missing"),
        ("convert", "missing/model.pth", "model.safetensors"),
    ]
    for arguments, (code, modules, _) in zip(lines, loaded_by_each(lines), strict=True):
        assert code in (2, 3, 4), arguments
        assert "torch" not in modules, arguments
