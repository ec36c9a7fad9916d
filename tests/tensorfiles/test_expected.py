"""What differs between the tensors of a file and those that are expected is named."""

import pytest

from cnctl.errors import CnctlError
from cnctl.tensorfiles.expected import check


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"a": (1,)}, "1 tensor missing: b"),
        ({"a": (1,), "b": (2,), "c": (3,)}, "1 tensor unknown: c"),
        ({"a": (1,), "b": (3,)}, r"1 tensor misshapen: b is \[3\], not \[2\]"),
        ({}, "2 tensors missing: a, b"),
    ],
)
def test_names_what_differs(shapes, sentence) -> None:
    with pytest.raises(CnctlError, match=sentence):
        check(shapes, {"a": (1,), "b": (2,)})


def test_shows_five_names_and_no_control_characters() -> None:
    with pytest.raises(CnctlError) as caught:
        check({f"\x1b[31m{n}" + "x" * 1000: (1,) for n in range(9)}, {})
    assert "9 tensors unknown" in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(", ...")
    assert len(str(caught.value)) < 700
