"""Sphinx: `sphinx-build -W docs docs/_build`."""

import importlib.metadata
import re
from typing import get_type_hints

import cnctl
from cnctl.settings.declaration import declarations

project = "cnctl"
author = copyright = "The cnctl developers"
version = release = importlib.metadata.version("cnctl")
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 3
default_role = "code"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "cnctl"
html_static_path = ["static"]
html_css_files = ["commands.css"]
add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
suppress_warnings = ["misc.highlighting_failure"]

REQUESTS = (
    cnctl.AnnotateRequest,
    cnctl.GenerateRequest,
    cnctl.TrainRequest,
    cnctl.EvaluateRequest,
    cnctl.ConvertRequest,
    cnctl.InitRequest,
)


def setup(app):
    for request in REQUESTS:
        declarations(request)  # is cached, and reads what the next line leaves out
        request.__annotations__ = request.__init__.__annotations__ = get_type_hints(request)
    app.connect("autodoc-process-docstring", describe_fields)


def describe_fields(app, what, name, obj, options, lines):
    """Give the fields of a request the help of their flags."""
    if obj in REQUESTS:
        lines.append("")
        for key, setting in declarations(obj).items():
            text = setting.flag.help.replace("*", r"\*")
            lines.append(f":param {key}: " + re.sub(r"(?<!\S)-[-\w]+", r"``\g<0>``", text))
