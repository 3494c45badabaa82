"""How Sphinx builds these pages: `make docs`."""

from compute_bridge import __version__

project = "compute-bridge"
author = "the compute-bridge authors"
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"compute-bridge {__version__}"
html_copy_source = False
html_show_sphinx = False
