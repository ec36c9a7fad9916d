"""Sphinx: `sphinx-build -W docs docs/_build`."""

from importlib.metadata import version

project = "cnctl"
author = copyright = "The cnctl developers"
release = version("cnctl")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "cnctl"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
suppress_warnings = ["misc.highlighting_failure"]
