"""How are the pages made? By Sphinx from Markdown and from the docstrings; any warning fails the build.

Sphinx because it is kept (a release every few months) and reads Python's docstrings itself. MkDocs has had no release
since August 2024, and its Material theme takes no more features.
"""

from __future__ import annotations

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import datacachalog

project = "datacachalog"
author = "The datacachalog developers"
project_copyright = author
version = release = datacachalog.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "literal"  # single backticks mean code, in docstrings as in Markdown

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = True
napoleon_use_ivar = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ProgressOption": "datacachalog.progress.ProgressOption", "Observer": "datacachalog.Observer"}
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

nitpicky = True
nitpick_ignore_regex = [
    # Their pages are on the network, which a build must not need.
    (r"py:.*", r"(collections|contextlib|datetime|enum|os|pathlib|typing|types|asyncio)\..*"),
    (r"py:.*", r"(distributed|fastapi|opentelemetry|starlette)\..*"),
    (r"py:.*", r"datacachalog\._sources\.SourcePath"),  # a shape: the text says of whose paths it is
    (r"py:.*", r"(Any|Callable|Path|Mapping|Sequence|Iterable|Iterator|AsyncIterator|datetime|timedelta|PathLike)"),
    # Of the two catalogs, the one that was given.
    (r"py:class", r"datacachalog\.integrations\.dask\._here\._Catalog"),
]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_title = f"datacachalog {release}"
html_theme_options = {"navigation_with_keys": True, "light_css_variables": {"code-font-size": "76%"}}
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

add_module_names = False


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", resolve_public_name)


def resolve_public_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """Lead to where users import a name from; where it is defined is nobody's business."""
    module, _, name = node["reftarget"].rpartition(".")
    if not module.startswith("datacachalog._") or name not in datacachalog.__all__:
        return None
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"datacachalog.{name}", node, content)
