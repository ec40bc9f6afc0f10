"""The documentation: `nox -s docs` builds it, and any warning fails the build."""

import builtins
import sys
from importlib.metadata import version as version_of

project = "flowkit"
author = "The flowkit authors"
project_copyright = "The flowkit authors"
release = version = version_of("flowkit-durable")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "flowkit"

default_role = "code"  # docstrings write `name`, as Markdown does
myst_enable_extensions = ["colon_fence", "deflist", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

nitpicky = True
# The build reads no inventory of the standard library, which would need the network; so its names stay unlinked.
_STANDARD = "|".join(sorted(sys.stdlib_module_names | set(dir(builtins))))
nitpick_ignore_regex = [
    (r"py:.*", rf"({_STANDARD})(\.[\w.]+)?"),
    (r"py:.*", r"(Callable|Mapping|Path|Self|Sequence|StrEnum|datetime|timedelta|[A-Z])"),
    # A signature with a default that is no Python expression, such as an enum's, is split at each comma.
    (r"py:class", r"\w+\[[^\]]*"),
]
