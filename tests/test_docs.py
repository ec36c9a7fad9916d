"""The documentation is tested: the reference is generated, the tutorial runs, names exist."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def commands(page: Path) -> list[str]:
    """The lines of a page's console blocks that a reader would type."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_cli_reference_is_what_the_commands_say() -> None:
    spec = importlib.util.spec_from_file_location("cli_reference", DOCS / "cli_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == module.reference(), "run: python docs/cli_reference.py"


def test_tutorial_runs(tmp_path: Path) -> None:
    """Each command of the tutorial in turn; training is cut to its first steps."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands(DOCS / "tutorial.md"):
        words = shlex.split(command)
        if words[:2] == ["cnctl", "train"]:
            words += ["--steps", "2", "--batch-size", "2", "--preview-every", "2"]
        run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, f"{command}\n{run.stderr}"
        assert run.stdout.strip(), command


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
