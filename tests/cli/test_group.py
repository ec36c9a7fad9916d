"""The program finds its commands when they are asked for, and lays out their help."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cnctl.cli import app
from cnctl.cli.complete import (
    complete_base,
    complete_control,
    complete_model,
    complete_scheduler,
    complete_sweep,
)
from cnctl.cli.group import COMMANDS, PAGES
from cnctl.sampling.samplers import SCHEDULERS
from cnctl.sampling.schedulers import scheduler_class


def help_of(*words: str) -> str:
    run = CliRunner().invoke(app, [*words, "--help"], terminal_width=80, catch_exceptions=False)
    return run.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name):
    text = " ".join(help_of(name).split())
    assert COMMANDS[name] in text
    assert f"{name:12}{COMMANDS[name]}" in help_of()
    assert f"Documentation: docs/{PAGES[name]}" in text
    assert (Path(__file__).parents[2] / "docs" / PAGES[name]).is_file()


@pytest.mark.parametrize("name", ["annotate", "train", "generate", "convert", "evaluate"])
def test_each_flag_is_in_a_panel_and_the_example_is_last(name):
    lines = help_of(name).splitlines()
    titles = [line for line in lines if re.fullmatch(r"\w[\w ]*:", line)]
    assert titles[0] in ("Input:", "Data:")
    assert {"Output:", "Machine:"} <= {*titles, *(["Machine:"] if name == "convert" else [])}
    assert titles[-2:] == ["More:", "Example:"]
    more = lines[lines.index("More:") + 1 : lines.index("Example:")]
    assert [line.split()[0] for line in more if line] == ["-h,"]


def test_a_mistyped_command_is_answered_with_the_nearest(cnctl):
    run = cnctl("anotate")
    assert run.returncode == 2
    assert "Did you mean 'annotate'?" in run.stderr


def test_a_wrong_flag_is_answered_with_near_ones_and_the_commands_help(cnctl):
    run = cnctl("generate", "--stpes", "3")
    assert run.returncode == 2
    assert "--steps" in run.stderr
    assert run.stderr.rstrip().endswith("; see cnctl generate --help")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("generate", "--steps", "two"), "--steps is 'two'; it must be a whole number"),
        (("models", "pull"), "Missing argument 'NAME'"),
        (("doctor", "--debug"), "--debug belongs before the command"),
        (("train", "--cond", "canny", "--data", ""), "--data is empty; give a value"),
        (("annotate", "--cond", "canny", "a.png", ""), "an argument is empty"),
    ],
)
def test_a_wrong_command_line_is_answered_in_one_line(cnctl, words, said):
    run = cnctl(*words)
    assert run.returncode == 2
    assert run.stderr.startswith(f"cnctl: {said}")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("debug", "said"),
    [("0", "cnctl: nowhere: no such file"), ("maybe", "cnctl: CNCTL_DEBUG is 'maybe'; it must be")],
)
def test_tracebacks_are_asked_for_by_words_that_mean_yes(cnctl, debug, said):
    run = cnctl("annotate", "--cond", "canny", "nowhere", CNCTL_DEBUG=debug)
    assert run.returncode == 2
    assert run.stderr.startswith(said)
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_that_shells_complete_are_diffusers(scheduler):
    assert scheduler_class(scheduler).endswith("Scheduler")


def test_completion_of_names():
    assert "v11p_canny" in complete_control("v11p_c")
    assert complete_base("sdx") == ["sdxl"]
    assert complete_model("bl") == ["blip", "blur-gaussian"]
    assert complete_scheduler("eu") == ["euler", "euler_ancestral"]
    assert complete_sweep("control_s") == ["control_scale=", "control_start="]
    assert complete_sweep("control_mode=prompt,b") == ["control_mode=prompt,balanced"]


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("bash", {"COMP_WORDS": "cnctl generate --control v11p_ca", "COMP_CWORD": "3"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "cnctl generate --control v11p_ca"}),
        (
            "fish",
            {
                "_TYPER_COMPLETE_ARGS": "cnctl generate --control v11p_ca",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            },
        ),
    ],
)
def test_completion_in_shells(shell, variables):
    environment = variables | {"_CNCTL_COMPLETE": f"complete_{shell}"}
    run = CliRunner().invoke(app, [], env=environment, prog_name="cnctl")
    assert "v11p_canny" in run.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--image", "a", "--image", "b"),
            ["--image is given more than once; the last one counts"],
        ),
        (("--cond", "a", "--cond", "b", "-n", "1"), []),
        (("--image", "a", "--image", "b", "-q"), []),
    ],
)
def test_an_option_given_twice_is_said_once(cnctl, words, said):
    """The last counts, so that a script may add to a command; options of many values add up."""
    assert cnctl("generate", *words, "--help").stderr.splitlines() == said
