from pathlib import Path

import pytest

from cnctl.errors import CnctlError
from cnctl.system.lines import read_lines

INSIDE = "a\u2028b\u2029c\u0085d\x0be\x0cf\rg"
"""What `str.splitlines` cuts at, inside of one line."""


def test_lines_end_at_a_line_feed_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(f"\ufeff{INSIDE}\r\nü\n".encode())
    assert read_lines(path) == [INSIDE, "ü", ""]


def test_what_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\nzwölf\n".encode("latin-1"))
    with pytest.raises(CnctlError, match=r"a\.txt, line 2, is not UTF-8 text"):
        read_lines(path)
    with pytest.raises(CnctlError, match=r"b\.txt cannot be read: no such file"):
        read_lines(tmp_path / "b.txt")
