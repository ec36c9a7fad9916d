"""Lines for people on a terminal."""

import pytest

from cnctl.cli.page import wrap_line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("short   one", ["short   one"]),
        ("base    a line of words", ["base    a line of", "        words"]),
        ("ok  base  a line of words", ["ok  base  a line of", "          words"]),
        ("  a long entry  licence here", ["  a long entry", "    licence here"]),
        ("file  /a/path/longer/than/the/line", ["file  /a/path/longer/than/the/line"]),
    ],
)
def test_a_long_line_continues_below_its_last_column(line: str, expected: list[str]) -> None:
    assert wrap_line(line, 20) == expected
