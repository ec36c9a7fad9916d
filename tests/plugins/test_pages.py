"""Every built-in condition has its page, and the page states what the condition does."""

import importlib.util
from pathlib import Path

import pytest

from cnctl.registry import OWN_DISTRIBUTION, list_conditions

DOCS = Path(__file__).parents[2] / "docs"
LARGEST_PICTURE = 40_000


def module():
    spec = importlib.util.spec_from_file_location("reference", DOCS / "conditions_reference.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_pages_state_what_the_conditions_do():
    pages = module().pages()
    assert all(e.problem == "" for e in list_conditions() if e.distribution == OWN_DISTRIBUTION)
    stale = [path.name for path, text in pages.items() if path.read_text("utf-8") != text]
    assert stale == [], "run: python docs/conditions_reference.py"


def test_there_are_no_pages_of_conditions_that_are_not():
    pages = {path.name for path in (DOCS / "conditions").glob("*.md")}
    assert pages == {path.name for path in module().pages()}


@pytest.mark.parametrize("page", sorted((DOCS / "conditions").glob("*.md")), ids=lambda p: p.stem)
def test_pictures_are_there_and_small(page):
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```{image}"):
            assert 500 < (page.parent / line.split()[1]).stat().st_size < LARGEST_PICTURE
