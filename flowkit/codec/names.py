"""Names of classes in stored data: given when a value is written, looked up when it is read.

Stored data is untrusted (rule D5): a name is only ever looked up among the modules that the program has imported by
itself, without running any code of theirs. Nothing is imported, called or evaluated here.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import PurePath
from types import ModuleType

from flowkit.codec.base import ClassNotFound

_MAINS = ("__main__", "__mp_main__")  # the second is what multiprocessing calls the main module of a spawned child


def real_module(module: str) -> str:
    """The name under which other processes import `module`: differs only for the script that was started.

    `python -m shop` runs the module `shop` under the name `__main__`, `python shop.py` too. Data that was recorded
    there has to be readable by a worker that imports `shop`.
    """
    if module not in _MAINS:
        return module
    main = sys.modules.get("__main__")
    return _name_of_main(main) if main is not None else "__main__"


def class_name(cls: type) -> str:
    """The name of a class in stored data: `module:Qualified.Name`."""
    return f"{real_module(cls.__module__)}:{cls.__qualname__}"


def find_class(name: str) -> type:
    """The class of this name, from the modules that are imported already.

    Raises:
        ClassNotFound: the module is not imported here or has no such class; the message says which.
    """
    module, _, qualname = name.partition(":")
    places = ("__main__", module) if module == real_module("__main__") else (module,)
    imported = False
    for place in places:
        space = _names_in(sys.modules.get(place))
        if space is not None:
            imported = True
            found = _walk(space, qualname) if "." in qualname else space.get(qualname)
            if isinstance(found, type):
                return found
    if imported:
        raise ClassNotFound(name, f"{name} is stored here, but module {module!r} has no class {qualname!r} any more")
    raise ClassNotFound(name, f"{name} is stored here, but module {module!r} is not imported: import it first")


def reachable(cls: type) -> bool:
    """Whether the class would be found again by its name."""
    try:
        return find_class(class_name(cls)) is cls
    except ClassNotFound:
        return False


@lru_cache(maxsize=4)
def _name_of_main(main: ModuleType) -> str:
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if isinstance(name, str):
        return name
    file = getattr(main, "__file__", None)
    stem = PurePath(file).stem if isinstance(file, str) else ""
    return stem if stem.isidentifier() else "__main__"


def _names_in(module: object) -> dict[str, object] | None:
    """The names in a module, read past any `__getattr__`, which could import or run something."""
    try:
        space = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return None
    return space if isinstance(space, dict) else None


def _walk(space: dict[str, object], qualname: str) -> object:
    first, *rest = qualname.split(".")
    found = space.get(first)
    for part in rest:
        if not isinstance(found, type):
            return None
        found = found.__dict__.get(part)
    return found
