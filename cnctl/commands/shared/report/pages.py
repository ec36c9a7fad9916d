"""HTML pages and SVG plots from the templates beside this file."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Return the page. Values are escaped, except those that the template marks as safe."""
    return _environment().get_template(template).render(**values)


def embedded(image: bytes, *, format: str) -> str:
    """Return an encoded image as a data: URL, so that a page needs no file beside it."""
    return f"data:image/{format};base64,{base64.b64encode(image).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("cnctl.commands.shared.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
