"""Pages are self-contained, and what is written on them cannot become markup."""

import re
from html.parser import HTMLParser

import pytest

from cnctl.commands.shared.report.pages import embedded, render

EVIL = "<script>alert('x')</script>\"&"
PAGES = {
    "training.html.j2": {
        "title": EVIL,
        "summary": EVIL,
        "plots": {EVIL: "<svg></svg>"},
        "previews": {EVIL: embedded(b"image", format="png")},
        "run": {EVIL: EVIL},
        "settings": {"steps": 1, "absent": None},
        "environment": {},
    },
    "evaluation.html.j2": {
        "title": EVIL,
        "scores": EVIL,
        "plot": "<svg></svg>",
        "sheets_by_kind": {EVIL: [(EVIL, embedded(b"image", format="webp"))], "None": []},
    },
    "gallery.html.j2": {"title": EVIL, "inputs": [[(EVIL, EVIL)]]},
}


class Reader(HTMLParser):
    """What a browser takes the page's tags and words for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.words += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("template", PAGES)
def test_names_are_words_and_not_markup(template: str) -> None:
    read = Reader(render(template, **PAGES[template]))
    assert "script" not in read.tags
    assert read.words.count(EVIL) >= 3


@pytest.mark.parametrize("template", ["training.html.j2", "evaluation.html.j2"])
def test_a_page_needs_nothing_else(template: str) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', render(template, **PAGES[template]))
    assert sources
    assert all(source.startswith("data:image/") for source in sources)


def test_what_is_not_set_has_no_row_and_no_heading() -> None:
    assert "absent" not in render("training.html.j2", **PAGES["training.html.j2"])
    assert "<h2>None</h2>" not in render("evaluation.html.j2", **PAGES["evaluation.html.j2"])
