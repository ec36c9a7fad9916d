"""Every built-in condition has its page, and the page states what the condition does."""

import importlib.util
import re
from pathlib import Path

import pytest

from cnctl.commands.shared.known_controls import known_weights
from cnctl.registry import (
    OWN_DISTRIBUTION,
    condition_names,
    get_condition,
    list_conditions,
)

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
    lines = page.read_text("utf-8").splitlines()
    pictures = [line.split()[1] for line in lines if line.startswith("```{image}")]
    assert pictures or page.stem == "index"
    for name in pictures:
        assert 500 < (page.parent / name).stat().st_size < LARGEST_PICTURE


@pytest.mark.parametrize("page", sorted((DOCS / "conditions").glob("*.md")), ids=lambda p: p.stem)
def test_links_lead_somewhere_and_commands_name_real_conditions(page):
    text = page.read_text("utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []
    named = re.findall(r"cnctl (?:annotate|generate) --cond ([a-z0-9-]+)", text)
    assert set(named) <= set(condition_names())


OWN = [e.name for e in list_conditions() if e.distribution == OWN_DISTRIBUTION]


@pytest.mark.parametrize("name", OWN)
def test_every_built_in_condition_names_its_licence_references_and_recipe(name):
    condition = get_condition(name)
    assert condition.licence
    assert condition.references
    assert condition.train.recipe
    assert all(file.licence for file in condition.files.values())
    assert condition.train.start_from in {"", *condition_names()}
    assert not any(file.filename and not file.sha256 for file in condition.files.values())


RELEASED = [
    *[
        f"sd-controlnet-{name}"
        for name in ("canny", "depth", "hed", "mlsd", "normal", "openpose", "scribble", "seg")
    ],
    *[
        f"control_v11p_sd15_{name}"
        for name in ("canny", "inpaint", "lineart", "mlsd", "normalbae", "openpose", "scribble")
    ],
    *["control_v11p_sd15_seg", "control_v11p_sd15_softedge", "control_v11p_sd15s2_lineart_anime"],
    *["control_v11f1p_sd15_depth", "control_v11f1e_sd15_tile"],
    *["control_v11e_sd15_shuffle", "control_v11e_sd15_ip2p"],
]
"""ControlNet 1.0's eight and 1.1's fourteen, for Stable Diffusion 1.5."""


@pytest.mark.parametrize("name", RELEASED)
def test_every_released_controlnet_has_its_condition(name):
    known = [
        w.source for own in OWN for w in known_weights(get_condition(own)) if w.family == "SD 1.x"
    ]
    assert f"lllyasviel/{name}" in known


def test_no_controlnet_is_recommended_that_was_not_released():
    known = {w.source for own in OWN for w in known_weights(get_condition(own))}
    ours = {source.removeprefix("lllyasviel/") for source in known if "lllyasviel" in source}
    assert ours == set(RELEASED)
