import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnctl.data.braces import expand_braces

NUMBERS = st.from_regex(r"-?0{0,2}[0-9]", fullmatch=True)
RANGES = st.tuples(NUMBERS, NUMBERS).map(lambda ends: f"{{{ends[0]}..{ends[1]}}}")
WORDS = st.text("ab7/", max_size=3)
PATTERNS = st.recursive(
    st.one_of(WORDS, RANGES),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"{{{','.join(parts)}}}"),
        st.lists(inner, min_size=2, max_size=2).map("".join),
    ),
    max_leaves=3,
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{8..011}", ["008", "009", "010", "011"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("x{a{0..1},b}", ["xa0", "xa1", "xb"]),
        ("{a}{b", ["{a}{b"]),
        ("{{0..1}}", ["{0}", "{1}"]),
        ("{0..1", ["{0..1"]),
        ("0}{1,2}", ["0}1", "0}2"]),
    ],
)
def test_braces_are_what_users_mean(text: str, expanded: list[str]) -> None:
    assert expand_braces(text) == expanded


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@settings(max_examples=60, deadline=None)
@given(PATTERNS)
def test_braces_are_those_of_the_shell(pattern: str) -> None:
    told = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' =x{pattern}"], capture_output=True, check=True, text=True
    )
    assert [f"=x{text}" for text in expand_braces(pattern)] == told.stdout.splitlines()
