import pytest

from cnctl.data.urls import without_credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/{00..99}.tar", "https://host/{00..99}.tar"),
        ("https://t0ken@host/a.tar", "https://***@host/a.tar"),
        ("http://me:p@ss@host:80/a@b.tar?x=1&y=2", "http://***@host:80/a@b.tar?***"),
        ("ftp://me:pass@host/a.tar", "ftp://me:***@host/a.tar"),
        ("s3://bucket/x?/a.tar", "s3://bucket/x?/a.tar"),
        ("hf://datasets/me/set@main/a.tar", "hf://datasets/me/set@main/a.tar"),
        ("503, url='https://u:p@host/a?s=1', at 5", "503, url='https://***@host/a?***', at 5"),
    ],
)
def test_credentials_are_hidden_and_nothing_else(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
    assert without_credentials(shown) == shown
