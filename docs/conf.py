"""The documentation: `nox -s docs` builds it, and any warning fails the build."""

import builtins
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

project = "flowkit"
author = "The flowkit authors"
project_copyright = "The flowkit authors"
release = version = version_of("flowkit-durable")

sys.path.insert(0, str(Path(__file__).parent))
extensions = ["flowcharts", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "flowkit"

add_module_names = False  # public names are imported from `flowkit`, wherever they are defined
default_role = "code"  # docstrings write `name`, as Markdown does
myst_enable_extensions = ["colon_fence", "deflist", "attrs_block", "attrs_inline"]
myst_fence_as_directive = ["mermaid"]
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
    (r"py:.*", rf"({_STANDARD})(\.[\w.~]+)?"),
    (r"py:.*", r"(Callable|Mapping|Path|Self|Sequence|StrEnum|datetime|timedelta)"),
    (r"py:.*", r"([\w.]*\.)?[A-Z]\d?(_co)?"),  # type variables
    (r"py:class", r"Json"),  # a recursive alias, which cannot be spelt out
    (r"py:.*", r"flowkit\.\w+\._\w+"),  # private bases, whose members are shown where they are inherited
    # Internals, in the signatures of constructors that users do not call.
    (r"py:class", r"flowkit\.(calls|clock|effects|engine|lines|operations|reasons|registry|run|spawning)\.\w+"),
    (r"py:class", r"flowkit\.sequencer\.(chain|forms|running)\.\w+"),
    (r"py:class", r"flowkit\.\w+\.(Runnable|StepMaker|TaskMaker)"),
    # A signature with a default that is no Python expression, such as an enum's, is split at each comma.
    (r"py:class", r"\w+\[[^\]]*"),
]


def _keep_colons(_app: Sphinx, what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Keep napoleon from reading `The same task, awaitable: on a thread` as a type and its description."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\ ")  # nothing, in reStructuredText, and no type to napoleon


def setup(app: Sphinx) -> None:
    """Hook into the build, ahead of napoleon."""
    app.connect("autodoc-process-docstring", _keep_colons, priority=100)
