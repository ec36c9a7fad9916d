import pytest

from cnctl.data.braces import expand_braces


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{8..011}", ["008", "009", "010", "011"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("x{a{0..1},b}", ["xa0", "xa1", "xb"]),
        ("{{0..1}}", ["{0}", "{1}"]),
        ("{a}{b", ["{a}{b"]),
        ("{0..1", ["{0..1"]),
        ("0}{1,2}", ["0}{1,2}"]),
        (r"C:\data\{0..1}.tar", [r"C:\data\0.tar", r"C:\data\1.tar"]),
    ],
)
def test_braces_are_what_users_mean(text: str, expanded: list[str]) -> None:
    assert expand_braces(text) == expanded
