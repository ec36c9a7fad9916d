"""Imports only go down: the contracts in pyproject.toml, and what they cannot say."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "cnctl").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]


def test_import_contracts_hold() -> None:
    script = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_no_function_is_longer_than_a_screen_or_two() -> None:
    functions = (
        (path.name, node.name, node.end_lineno - node.lineno + 1)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno
    )
    assert [function for function in functions if function[2] > 80] == []


def test_torch_load_is_called_in_the_guarded_child_only() -> None:
    callers = {path.parent.name for path in SOURCES if "torch.load(" in path.read_text()}
    assert callers <= {"tensorfiles"}
