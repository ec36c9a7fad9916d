"""The documentation is tested: the reference is generated, the tutorial runs, names exist."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from cnctl.cli import app
from cnctl.images import read_image
from cnctl.settings import read_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def load(script: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(script, DOCS / f"{script}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


commands = load("paper_pictures").commands


def test_cli_reference_is_what_the_commands_say() -> None:
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == load("cli_reference").reference(), "run: python docs/cli_reference.py"


def test_settings_reference_is_what_is_declared() -> None:
    written = (DOCS / "settings.md").read_text(encoding="utf-8")
    page = load("settings_reference")
    assert written == page.reference(), "run: python docs/settings_reference.py"


def test_the_example_of_a_settings_file_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (example,) = re.findall(r"```toml\n(.*?)```", (DOCS / "settings.md").read_text(), re.DOTALL)
    (tmp_path / "cnctl.toml").write_text(example)
    assert read_config(tmp_path)["train"] == {"batch_size": 8, "ema": 0.999}


@pytest.mark.slow
def test_tutorial_runs(tmp_path: Path) -> None:
    """Each command of the tutorial in turn; training is cut to its first steps."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands(DOCS / "tutorial.md"):
        words = shlex.split(command)
        if words[:2] == ["cnctl", "train"] and "--steps" not in words:
            words += ["--steps", "2", "--batch-size", "2", "--preview-every", "2"]
        run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{command}\n{run.stderr}"
        assert run.stdout.strip(), command


@pytest.mark.slow
@pytest.mark.parametrize("page", ["annotate", "coming-from", "models", "reproducibility"])
def test_the_commands_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for command in commands(DOCS / f"{page}.md"):
        run = CliRunner().invoke(app, shlex.split(command)[1:])
        assert run.exit_code == 0, f"{command}\n{run.output}"
    if page == "reproducibility":
        first, second = (read_image(f"out/{name}/bird-canny-3.png") for name in ("first", "second"))
        assert (first == second).all()


def test_troubleshooting_quotes_messages_that_are_there() -> None:
    """What stands between the dots of each message, in the program's text."""
    lines = (ROOT.joinpath(path).read_text("utf-8") for path in sorted(ROOT.glob("cnctl/**/*.py")))
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(lines))
    table = (DOCS / "troubleshooting.md").read_text("utf-8").split("## By symptom")[0]
    messages = re.findall(r"^\| (`.+?`) \| [\d, ]+ \|", table, re.MULTILINE)
    parts = [part.strip(" ;,`") for text in messages for part in re.split(r"\.\.\.|`, `", text)]
    assert len(parts) > 15
    composed = {"is a LoRA, not a ControlNet"}
    assert {part for part in parts if part not in source} == composed


@pytest.mark.slow
def test_the_page_on_z_image_runs(random_zimage_base: Path, tmp_path: Path) -> None:
    """Each command but the download, on the small base, with photographs of this repository."""
    shutil.copytree(ROOT / "examples" / "images", tmp_path / "photos")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands(DOCS / "train-z-image.md")[1:]:
        words = [
            word.replace("z-image-turbo", str(random_zimage_base)) for word in shlex.split(command)
        ]
        if words[1] == "train" and "-o" in words:
            words += ["--steps", "1", "--batch-size", "1", "--preview-every", "0"]
        if words[1] in ("generate", "evaluate"):
            words += ["--steps", "1"]
        run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{command}\n{run.stderr}"


@pytest.mark.slow
def test_paper_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the page, cut short, and its pictures' layout from what they wrote."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNCTL_BASE", "tiny")
    for command in commands(DOCS / "paper.md"):
        _, name, *words = shlex.split(command)
        words += ["--steps", "1"]
        words += ["-n", "1"] if name == "generate" else ["--batch-size", "2"]
        run = CliRunner().invoke(app, [name, *words])
        assert run.exit_code == 0, f"{command}\n{run.output}"
    script = load("paper_pictures")
    monkeypatch.setattr(script, "PREVIEWED", (0, 1))
    shown = re.findall(r"images/paper/(\w+)\.jpg", (DOCS / "paper.md").read_text(encoding="utf-8"))
    assert set(script.make_pictures()) == set(shown)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index"}
    assert pages <= set(index.split())


def test_public_names_of_the_plugin_api_are_documented() -> None:
    import cnctl.plugin

    undocumented = [n for n in cnctl.plugin.__all__ if not getattr(cnctl.plugin, n).__doc__]
    assert undocumented == []
