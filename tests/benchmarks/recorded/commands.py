"""Reads commands.txt."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template


def read_commands() -> dict[str, str]:
    """By name, the words behind `cnctl`."""
    words: dict[str, str] = {}
    commands = {}
    for line in Path(__file__).with_name("commands.txt").read_text().splitlines():
        if found := re.fullmatch(r"([A-Z]+) = (.*)", line):
            words[found[1]] = Template(found[2]).substitute(words)
        elif found := re.fullmatch(r"([\w-]+): (.*)", line):
            commands[found[1]] = Template(found[2]).substitute(words).replace("@", found[1])
    return commands


def needed_by(command: str, commands: dict[str, str]) -> list[str]:
    """The names of those whose output a command reads or continues."""
    _, _, words = command.partition(" ")
    return [name for name in commands if re.search(rf"(?<![\w/-]){name}(?![\w-])", words)]
