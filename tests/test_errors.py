"""The command line turns every error into one line and the exit code that the docs promise."""

import os
import re
from pathlib import Path

import pytest

from cnctl.cli import _describe, main
from cnctl.errors import CnctlError, DeviceError, MissingError, OutputError, SomeInputsFailed

TABLE = Path(__file__).parents[1] / "docs" / "exit-codes.md"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("a bug\nof two lines"), 1),
        (CnctlError("bad", hint="fix it"), 2),
        (SomeInputsFailed("1 of 2 failed"), 3),
        (MissingError("weights"), 4),
        (DeviceError("no cuda"), 5),
        (MemoryError(), 5),
        (OutputError("exists"), 6),
        (OSError(28, os.strerror(28), "out.png"), 6),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_error_is_one_line_with_its_code(error: BaseException, code: int) -> None:
    message, given = _describe(error)
    assert given == code
    assert message
    assert "\n" not in message
    assert re.search(rf"^\| {code} \|", TABLE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--nonsense"], ["annotate", "--nonsense"], ["generate", "-n", "x"]]
)
def test_wrong_use_is_one_line_and_exit_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
