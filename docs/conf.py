"""Sphinx: `sphinx-build -W docs docs/_build`."""

import importlib.metadata

project = "cnctl"
author = copyright = "The cnctl developers"
version = release = importlib.metadata.version("cnctl")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
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
autodoc_typehints = "description"
suppress_warnings = ["misc.highlighting_failure"]
