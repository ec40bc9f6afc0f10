"""Find a task by `FILE_OR_MODULE:TASK`: import the code as Python itself would, then look the task up."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from flowkit.cli.output import one_line
from flowkit.cli.tracebacks import user_traceback
from flowkit.errors import ConfigurationError
from flowkit.registry import TaskSpec, tasks
from flowkit.tasks import AsyncTask, Runnable, Task


def load_task(target: str) -> Runnable[..., Any]:
    """The task that a target names.

    Args:
        target: `path/to/file.py:task`, `package.module:task`, or either alone if it defines just one task. The task is
            named by its attribute in the module, or by its id.

    Raises:
        ConfigurationError: the code cannot be imported, or holds no such task; the message says what it holds.
    """
    code, name = split_target(target)
    module = load_code(code)
    return _only_task(module, code) if name is None else _named_task(module, code, name)


def split_target(target: str) -> tuple[str, str | None]:
    """The code and the task of a target; a task id may hold colons itself."""
    code, colon, name = target.partition(".py:")
    if colon:
        return f"{code}.py", name or None
    if target.endswith(".py"):
        return target, None
    code, _, name = target.partition(":")
    return code, name or None


def load_code(code: str) -> ModuleType:
    """Import a file or a module, under the name that any other importer would use.

    The name matters: tasks without an id are stored under it, and stored values name the classes of their module.

    Raises:
        ConfigurationError: it cannot be found, or fails while it is imported.
    """
    if code.endswith(".py") or "/" in code:
        return _load_file(Path(code))
    _search_first(Path.cwd())
    return _import(code, code)


def _load_file(given: Path) -> ModuleType:
    file = given.resolve()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigurationError(f"{given} {what}; name a Python file, or a module as in package.module:task")
    name, folder = file.stem, file.parent
    if "." in name:
        raise ConfigurationError(f"{given}: a module's name cannot hold a dot; rename the file")
    while (folder / "__init__.py").is_file():  # inside a package: import it as the package's own code does
        name = folder.name if name == "__init__" else f"{folder.name}.{name}"
        folder = folder.parent
    _search_first(folder)
    module = _import(name, str(given))
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file:
        raise ConfigurationError(
            f"{given} would be module {name!r}, but that name is taken by {found or 'a module of Python itself'}; "
            "rename the file"
        )
    return module


def _search_first(folder: Path) -> None:
    """Put a folder first on the import path, as `python file.py` and `python -m` do."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import(name: str, given: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"there is no module {name!r} (looked in {Path.cwd()} and where Python is installed); "
                "for a file write path/to/file.py:task"
            ) from None
        raise _broken(given, error) from error
    except Exception as error:
        raise _broken(given, error) from error


def _broken(given: str, error: BaseException) -> ConfigurationError:
    return ConfigurationError(f"{given} could not be imported:\n{user_traceback(error)}")


def _only_task(module: ModuleType, code: str) -> Runnable[..., Any]:
    found = tasks_in(module)
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise ConfigurationError(f"{code} defines no task; decorate a function in it with @flowkit.task")
    raise ConfigurationError(f"{code} defines {len(found)} tasks, so say which: {code}:NAME, one of {_names(found)}")


def _named_task(module: ModuleType, code: str, name: str) -> Runnable[..., Any]:
    value: object = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if isinstance(value, Runnable):
        return value
    by_id = tasks.find(name)
    if by_id is not None:
        return task_of(by_id)
    if callable(value):
        raise ConfigurationError(f"{code}: {name!r} is no task; decorate it with @flowkit.task")
    found = tasks_in(module)
    if not found:
        raise ConfigurationError(f"{code} has no task {name!r}, nor any other; decorate a function with @flowkit.task")
    near = difflib.get_close_matches(name, [*found, *(task.id for task in found.values())], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {_names(found)}"
    raise ConfigurationError(f"{code} has no task {name!r}; {hint}")


def tasks_in(module: ModuleType) -> dict[str, Runnable[..., Any]]:
    """The tasks that a module defines, by attribute; those it has only imported are left out if it has its own."""
    found = {name: value for name, value in vars(module).items() if isinstance(value, Runnable)}
    own = {name: value for name, value in found.items() if value.spec.fn.__module__ == module.__name__}
    return own or found


def task_of(spec: TaskSpec) -> Runnable[..., Any]:
    """The task object around a definition."""
    return AsyncTask(spec) if spec.is_async else Task(spec)


def _names(found: dict[str, Runnable[..., Any]]) -> str:
    return one_line([repr(name) for name in sorted(found)])
