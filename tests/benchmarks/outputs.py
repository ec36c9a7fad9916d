"""What a list of cnctl commands writes, as hashes: before and after a change that should not show.

    python tests/benchmarks/outputs.py -o before.json                          # the old tree
    python tests/benchmarks/outputs.py -o after.json --against before.json     # the new one
    python tests/benchmarks/outputs.py --only 'convert*' --keep folder -o some.json

It runs the cnctl that Python finds (PYTHONPATH), on the CPU with one thread. Hashes are comparable
on one machine with the same packages only. The exit code is 1 where something differs.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import fnmatch
import importlib
import importlib.util
import json
import multiprocessing
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
WARM = ("torch._dynamo", "peft", "diffusers.models", "transformers.modeling_utils", "accelerate")
"""What takes most of a command's start; imported once and shared by all commands."""
NOT_OUTPUT = ("in", "home", "log")
"""Folders beside what commands write: their inputs, caches, and what they print."""

Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True, help="file for the hashes")
    parser.add_argument("--only", default="*", help="commands by name, with * and ?")
    parser.add_argument("--against", type=Path, help="earlier hashes to compare with")
    parser.add_argument("--keep", type=Path, help="new folder for all that commands write")
    parser.add_argument("--cold", action="store_true", help="start Python for each command")
    asked = parser.parse_args()
    with _folder(asked.keep) as folder:
        found = record(folder, choose(asked.only), cold=asked.cold)
    asked.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if asked.against:
        before = json.loads(asked.against.read_text())
        sys.exit(report(before, found, every=asked.only == "*"))


def choose(pattern: str) -> dict[str, str]:
    """The commands of these names, and before each those whose output it reads."""
    from recorded.commands import needed_by, read_commands

    known = read_commands()
    chosen: dict[str, str] = {}

    def add(name: str) -> None:
        for other in needed_by(known[name], known):
            if other != name:
                add(other)
        chosen.setdefault(name, known[name])

    for name in fnmatch.filter(known, pattern):
        add(name)
    return chosen


def record(folder: Path, commands: dict[str, str], *, cold: bool) -> dict[str, Record]:
    """Run the commands one after another in a folder; of each the hashes and what it printed."""
    _prepare(folder)
    found = {}
    for number, (name, command) in enumerate(commands.items(), 1):
        start = time.perf_counter()
        found[name] = _record_one(folder, name, command, cold=cold)
        took = time.perf_counter() - start
        progress = f"{number}/{len(commands)}  {name}  exit {found[name]['exit']}  {took:.1f} s"
        print(progress, file=sys.stderr, flush=True)
    return found


def report(before: dict[str, Record], after: dict[str, Record], *, every: bool) -> int:
    """Print what differs; 1 where something does. every: name commands that were not run."""
    missing = sorted(before.keys() - after.keys()) if every else []
    lines = [f"{name}: was not run" for name in missing]
    for name, now in after.items():
        if name not in before:
            lines.append(f"{name}: was not there before")
        else:
            lines += [f"{name}: {line}" for line in _differences(before[name], now)]
    print("\n".join(lines) or f"{len(after)} commands, no difference")
    return int(bool(lines))


def _prepare(folder: Path) -> None:
    """The inputs, and what the commands inherit from this process."""
    for name in ("CACHE", "CONFIG", "DATA"):
        os.environ.pop(f"XDG_{name}_HOME", None)
    os.environ.update(ENVIRONMENT, HOME=str(folder / "home"))
    os.environ["HF_HOME"] = str(folder / "home/huggingface")
    for name in NOT_OUTPUT:
        (folder / name).mkdir()
    found = importlib.util.find_spec("cnctl")
    print(f"cnctl: {found and found.origin}", file=sys.stderr)
    for module in WARM:
        importlib.import_module(module)
    from recorded.inputs import write_inputs

    # In a separate process: threads that torch has started would not outlive a fork.
    _fork(write_inputs, folder / "in")


def _record_one(folder: Path, name: str, command: str, *, cold: bool) -> Record:
    from recorded.digests import digest_file

    before = _stamps(folder)
    words = shlex.split(command)
    code = (_run_cold if cold else _run_warm)(folder, name, words)
    after = _stamps(folder)
    written = [path for path in after if after[path] != before.get(path)]
    stdout = (folder / f"log/{name}.stdout").read_text(errors="replace")
    return {
        "command": shlex.join(["cnctl", *words]),
        "exit": code,
        "stdout": stdout.replace(str(folder), "FOLDER").splitlines(),
        "removed": sorted(str(path) for path in before.keys() - after.keys()),
        "outputs": {
            f"{path}: {part}": digest
            for path in sorted(written)
            for part, digest in digest_file(folder / path)
        },
    }


def _run_warm(folder: Path, name: str, words: list[str]) -> int:
    """`python -m cnctl` in a fork of this process, which has imported torch already."""
    return _fork(_become, folder, name, words)


def _fork(work: Callable[..., None], *given: Any) -> int:
    process = multiprocessing.get_context("fork").Process(target=work, args=given)
    process.start()
    process.join()
    return process.exitcode or 0


def _become(folder: Path, name: str, words: list[str]) -> None:
    for number, kind in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / f"log/{name}.{kind}", os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    sys.argv = ["cnctl", *words]
    runpy.run_module("cnctl", run_name="__main__", alter_sys=True)


def _run_cold(folder: Path, name: str, words: list[str]) -> int:
    with (
        (folder / f"log/{name}.stdout").open("w") as stdout,
        (folder / f"log/{name}.stderr").open("w") as stderr,
    ):
        command = [sys.executable, "-m", "cnctl", *words]
        return subprocess.run(command, cwd=folder, stdout=stdout, stderr=stderr).returncode


def _stamps(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """What shows whether a file was written again, by its path below the folder."""
    stamps = {}
    for path in folder.rglob("*"):
        below = path.relative_to(folder)
        if path.is_file() and below.parts[0] not in NOT_OUTPUT and path.name != ".lock":
            about = path.stat()
            stamps[below] = about.st_mtime_ns, about.st_size, about.st_ino
    return stamps


def _differences(before: Record, after: Record) -> Iterator[str]:
    for key in ("command", "exit", "removed"):
        if before[key] != after[key]:
            yield f"{key} is {after[key]}, was {before[key]}"
    yield from _changed_lines(before["stdout"], after["stdout"])
    was, now = before["outputs"], after["outputs"]
    yield from (f"lacks {part}" for part in sorted(was.keys() - now.keys()))
    yield from (f"also writes {part}" for part in sorted(now.keys() - was.keys()))
    yield from (
        f"differs in {part}" for part in sorted(was.keys() & now.keys()) if was[part] != now[part]
    )


def _changed_lines(before: list[str], after: list[str]) -> Iterable[str]:
    changes = difflib.unified_diff(before, after, n=0, lineterm="")
    return (f"stdout {line}" for line in changes if not line.startswith(("---", "+++", "@@")))


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """An empty folder, which goes at the end or stays."""
    if kept:
        kept.mkdir(parents=True)
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder).resolve()


if __name__ == "__main__":
    main()
