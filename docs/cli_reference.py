"""Write docs/cli.md from the commands' own help: `python docs/cli_reference.py`."""

import os
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    (),
    ("annotate",),
    ("train",),
    ("generate",),
    ("convert",),
    ("evaluate",),
    ("conditions",),
    ("models",),
    ("models", "pull"),
    ("info",),
    ("doctor",),
)

HEAD = """# Command line

Written by `docs/cli_reference.py` from the commands' own help; a test holds it to them.
The [exit codes](exit-codes.md) are the same everywhere. Data goes to stdout, all else to stderr.
"""


def help_of(command: tuple[str, ...]) -> str:
    """The help text of one command, 88 columns wide, without colours."""
    environment = os.environ | {"COLUMNS": "88", "TERM": "dumb", "NO_COLOR": "1"}
    for variable in ("CNCTL_BASE", "CNCTL_DEBUG"):
        environment.pop(variable, None)
    run = subprocess.run(
        [sys.executable, "-m", "cnctl", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    text = run.stdout.replace("python -m cnctl", "cnctl")
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for command in COMMANDS:
        parts.append(f"## {' '.join(('cnctl', *command))}\n\n```text\n{help_of(command)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(reference(), encoding="utf-8")
