"""The site: `make docs` builds it, without a network."""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path

import vavl

HERE = Path(__file__).parent


def _package() -> str:
    """A name for the package as it is: what it answered before it was changed is of no use."""
    files = sorted(Path(vavl.__file__).parent.rglob("*.py"))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


sys.path.insert(0, str(HERE / "extensions"))

project = "vavl"
author = "The vavl authors"
project_copyright = author
version = release = vavl.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "generated_pages",
    "links",
    "command_output",
    "accessible",
]
exclude_patterns = ["build", "_build", "extensions", "**/.ipynb_checkpoints"]
suppress_warnings = [
    "config.cache",  # functions among the settings, which myst-nb has
]
nitpicky = True
root_doc = "index"
default_role = "code"

# Pages.
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Tutorials: run again where they or the package have changed; an error ends the build.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "docs-cache" / _package())
nb_execution_in_temp = True
nb_execution_timeout = 600  # of a cell, on a machine that has other work
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "show"
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.update(
    COLUMNS="80",
    TTY_COMPATIBLE="0",  # rich writes plain text, which each lexer knows
    PYDEVD_DISABLE_FILE_VALIDATION="1",
    TUTORIAL_FILES=str(HERE / "tutorials"),
)

# Reference.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_custom_sections = ["Source", "Differs from the published code", "Keys"]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# Looks. Nothing is fetched from elsewhere when a page is read.
html_theme = "pydata_sphinx_theme"
html_title = "vavl"
html_static_path = ["_static"]
html_css_files = ["vavl.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "vavl"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    # Each page lists its own branch alone, and not all 200 pages.
    "collapse_navigation": True,
    "navigation_depth": 3,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
}
html_context = {"default_mode": "auto"}
copybutton_exclude = ".linenos, .gp, .go"
