"""Write docs/cli.md from the commands' own help: `python docs/cli_reference.py`."""

from pathlib import Path

from typer.testing import CliRunner

from cnctl.cli import app

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
    ("models", "remove"),
    ("info",),
    ("doctor",),
)

HEAD = """# Command line

Written by `docs/cli_reference.py` from the commands' own help; a test holds it to them.
The [exit codes](exit-codes.md) are the same everywhere. Data goes to stdout, all else to stderr.
"""


def help_of(command: tuple[str, ...]) -> str:
    """The help text of one command as a terminal of 80 columns shows it, without colours."""
    words, unset = [*command, "--help"], dict.fromkeys(("CNCTL_BASE", "CNCTL_DEBUG"))
    settings = {"prog_name": "cnctl", "terminal_width": 78, "catch_exceptions": False}
    run = CliRunner().invoke(app, words, env=unset, **settings)
    return "\n".join(line.rstrip() for line in run.stdout.strip().splitlines())


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for command in COMMANDS:
        parts.append(f"## {' '.join(('cnctl', *command))}\n\n```text\n{help_of(command)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(reference(), encoding="utf-8")
