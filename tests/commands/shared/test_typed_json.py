"""Dataclasses survive JSON, and what is not one is named."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from cnctl.commands.shared.typed_json import from_json, to_json


@dataclass(frozen=True, kw_only=True)
class Leaf:
    name: str


@dataclass(frozen=True, kw_only=True)
class Tree:
    leaves: tuple[Leaf, ...]
    size: tuple[int, int] | None = None
    scale: float = 1.0
    options: Mapping[str, bool | int | str]


DOCUMENT = {"leaves": [{"name": "a"}], "size": [2, 3], "options": {"x": True, "y": 2, "z": "w"}}


def test_reads_what_it_writes() -> None:
    tree = Tree(leaves=(Leaf(name="a"),), size=(2, 3), options={"x": True, "y": 2, "z": "w"})
    assert from_json(Tree, json.loads(json.dumps(to_json(tree)))) == tree
    assert to_json(tree) == DOCUMENT, "a field at its default is left out"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leaves": [{}]}, "'leaves' lacks 'name'"),
        ({"leaves": {}}, "'leaves' is {}, which is not of type list"),
        ({"leaves": [{"name": 3}]}, "'name' is 3, which is not of type str"),
        ({"leaves": [{"name": "a", "age": 3}]}, "'leaves' has an unknown 'age'"),
        ({"size": [2]}, "'size' does not have 2 items"),
        ({"scale": True}, "'scale' is True, which is not of type float"),
        ({"options": {"x": []}}, r"'x' is \[\], which is not of type str"),
    ],
)
def test_names_what_is_wrong(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Tree, DOCUMENT | change)
