"""Indexes as people write them: what is read, and what is refused with file and line."""

import json
from pathlib import Path

import pytest

from cnctl.data.index import read_entries
from cnctl.errors import CnctlError

HEADER = "file_name,conditioning_image,text\n"


def fields(path: Path, content: str | bytes) -> list[dict[str, object]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [dict(entry.fields) for entry in read_entries(path)]


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        ("file_name, conditioning_image, text\na.png, b.png, a ball\n", "a ball"),
        (f"\ufeff{HEADER}a.png,b.png,a ball\r\n", "a ball"),
        (f'{HEADER}a.png,b.png,"a ball, ""red"""\n', 'a ball, "red"'),
        (f'{HEADER}\na.png,b.png,"a ball,\nat night"', "a ball,\nat night"),
        (f"{HEADER}a.png,b.png,a\u2028b\u0085c\n", "a\u2028b\u0085c"),
    ],
    ids=["blanks", "mark", "quotes", "line feed in quotes", "separators"],
)
def test_csv(tmp_path: Path, content: str, prompt: str) -> None:
    expected = {"file_name": "a.png", "conditioning_image": "b.png", "text": prompt}
    assert fields(tmp_path / "a.csv", content) == [expected]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a.png,b.png,a red ball, at night\n",
            r"line 2 of .*a\.csv has 4 fields, and the header 3",
        ),
        ("a.png,b.png,x\nc.png\n", "line 3 of .* has 1 fields"),
        ('a.png,b.png,"x\ny"\nc.png,d.png\n', "line 4 of .* has 2 fields"),
        ('a.png,b.png,"no end\nc.png,d.png,y\n', "line 2 of .* is not CSV: unexpected end"),
        ('a.png,b.png,"a" ball\n', "line 2 of .* is not CSV"),
        (b"a.png,b.png,ok\na.png,b.png,z\xfcrich\n", r"a\.csv, line 3, is not UTF-8"),
    ],
)
def test_csv_that_would_lose_text_is_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(CnctlError, match=message):
        fields(tmp_path / "a.csv", HEADER.encode() + data)


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CnctlError, match=r"line 1 of .* names the column 'text' twice"):
        fields(tmp_path / "a.csv", "image,text, text\na.png,b,c\n")


PAIRS = [{"source": "a.png", "prompt": "a\u2028b"}, {"source": "b.png", "prompt": "c"}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_one_json_array(tmp_path: Path, indent: int | None, mark: str) -> None:
    text = mark + json.dumps(PAIRS, ensure_ascii=False, indent=indent)
    assert fields(tmp_path / "prompt.json", text) == PAIRS


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_json_end_at_a_line_feed_alone(tmp_path: Path, end: str) -> None:
    text = "\ufeff" + end.join(json.dumps(pair, ensure_ascii=False) for pair in PAIRS)
    assert fields(tmp_path / "a.jsonl", text) == PAIRS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"image": "a.png"},\n{"image"}]', r"an array, is not JSON: .* \(line 2\)"),
        ('{"image": "a.png", "image": "b.png"}', "line 1 of .*: 'image' appears twice"),
        ('{"image": "a.png"}\n{"image": "\xfc"}'.encode("latin-1"), "line 2, is not UTF-8"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(CnctlError, match=message):
        fields(tmp_path / "a.jsonl", text)
