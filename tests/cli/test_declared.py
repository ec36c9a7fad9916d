"""Commands from declarations: which flags Typer makes, in which order, and what a command gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from cnctl.cli.declared import Given, declares
from cnctl.cli.group import Command
from cnctl.errors import CnctlError
from cnctl.settings.declaration import Declared, Flag, at_least, less_than, one_of


@dataclass(frozen=True, kw_only=True)
class Request(Declared):
    first: Annotated[str | None, Flag("The first.")] = None
    paths: Annotated[Sequence[Path | str], Flag("Paths.", ("--path", "-p"))] = ()
    once: Annotated[bool, Flag("A switch.")] = False
    inner: int = 0
    last: Annotated[str | None, Flag("The last.")] = None


@dataclass(frozen=True, kw_only=True)
class Settings(Declared):
    SECTION: ClassVar[str] = "settings"

    rate: Annotated[float, Flag("A rate.", default="{}, none"), at_least(0), less_than(1)] = 0.0
    mode: Annotated[str, Flag("A mode.", repeat=True), one_of("soft", "hard")] = "soft"
    fast: Annotated[int, Flag("Fast.", former="quick")] = 0
    wide: Annotated[bool, Flag("Wide.")] = False


GOT: list[tuple[Given, int]] = []


PANELS = {"Input": "first", "Rates": "rate mode own", "Rest": "last wide paths once"}


@declares(
    Request, Settings, panels=PANELS, complete={"first": lambda incomplete: [f"{incomplete}st"]}
)
def command(*, given: Given, own: Annotated[int, Flag("Its own."), at_least(1)] = 1) -> None:
    GOT.append((given, own))


app = typer.Typer(rich_markup_mode=None)
app.command(cls=Command)(command)


def run(*words: str) -> tuple[Given, int]:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return GOT.pop()


def test_help_shows_flags_in_panels_in_their_order() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "88"}).output
    lines = [line.split()[0].strip(",") for line in text.splitlines() if line.startswith("  -")]
    shown = ["--first", "--rate", "--mode", "--own", "--last", "--wide", "-p", "--once", "--help"]
    assert [line for line in lines if line in shown] == shown
    panels = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert panels == ["Input:", "Rates:", "Rest:", "More:"]
    assert "A rate.  [default: 0, none; x>=0, x<1]" in " ".join(text.split()).replace(". [", ".  [")
    assert "--mode soft|hard" in text
    assert "--wide / --no-wide" in text
    assert "--no-once" not in text
    assert "inner" not in text


def test_shells_complete_choices_and_what_a_command_says() -> None:
    parameters = {each.name: each for each in typer.main.get_command(app).params}
    context = typer.Context(typer.main.get_command(app))
    found = {
        name: [item.value for item in parameters[name].shell_complete(context, begun)]
        for name, begun in (("first", "fir"), ("mode", "h"))
    }
    assert found == {"first": ["first"], "mode": ["hard"]}


@pytest.mark.parametrize(
    ("words", "request_", "settings", "own"),
    [
        ([], {}, {}, 1),
        (["--own", "3", "--rate", "0"], {}, {"rate": 0.0}, 3),
        (
            ["-p", "a", "--path", "b", "--once"],
            {"paths": [Path("a"), Path("b")], "once": True},
            {},
            1,
        ),
        (["--fast", "2"], {}, {"fast": 2}, 1),
        (["--quick", "2"], {}, {"fast": 2}, 1),
        (["--mode", "hard", "--no-wide"], {}, {"mode": ["hard"], "wide": False}, 1),
    ],
)
def test_a_command_gets_what_was_given(
    words: list[str], request_: dict[str, Any], settings: dict[str, Any], own: int
) -> None:
    given, mine = run(*words)
    assert (given[Request], given[Settings], mine) == (request_, settings, own)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "1"], "--rate is 1.0; it must be at least 0 and less than 1"),
        (["--mode", "soft", "--mode", "loud"], "--mode is loud; it must be soft or hard"),
        (["--own", "0"], "--own is 0; it must be at least 1"),
    ],
)
def test_a_value_out_of_range_is_refused_before_the_command_runs(
    words: list[str], message: str
) -> None:
    with pytest.raises(CnctlError, match=message):
        run(*words)
    assert GOT == []
