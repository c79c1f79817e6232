"""How Sphinx builds the site: `make docs`."""

from drlearn import __version__

project = "drlearn"
author = "the drlearn developers"
copyright = "the drlearn developers"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "auto_examples/*.md5"]
nitpicky = True
default_role = "literal"  # a single backtick in a docstring is code
pygments_style = "tango"

# -- pages in markdown: the same files read well on a code host

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_update_mathjax = False

# -- the reference, from docstrings

toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
autodoc_default_options = {"member-order": "bysource"}
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# -- examples, run while the site is built

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/plot_",
    "within_subsection_order": "gallery.Story",
    "doc_module": ("drlearn",),
    "backreferences_dir": "generated/backreferences",
    "parallel": True,
    "reset_argv": "gallery.arguments",
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1,
}

# -- how it looks

html_theme = "pydata_sphinx_theme"
html_title = "drlearn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "drlearn"},
    "navigation_with_keys": True,
    "show_prev_next": True,
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
html_sidebars = {"start": []}  # nothing is below it
