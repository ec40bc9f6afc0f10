"""How `FILE_OR_MODULE:TASK` is found, and what is said when it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flowkit.cli.loading import load_code, load_task, split_target
from flowkit.errors import ConfigurationError

Write = Callable[[str, str], Path]
ONE = 'from flowkit import task\n\n@task(id="{id}")\ndef only() -> int:\n    return 1\n'


@pytest.mark.parametrize(
    ("target", "code", "name"),
    [
        ("a/b.py:task", "a/b.py", "task"),
        ("a/b.py", "a/b.py", None),
        ("a/b.py:", "a/b.py", None),
        ("pkg.mod:task", "pkg.mod", "task"),
        ("pkg.mod", "pkg.mod", None),
        ("pkg.mod:pkg.mod:task", "pkg.mod", "pkg.mod:task"),
        ("a/b.py:b:task", "a/b.py", "b:task"),
    ],
)
def test_target_is_code_and_task(target: str, code: str, name: str | None) -> None:
    """A target is split at its first colon, or after `.py`; a task id may hold colons."""
    assert split_target(target) == (code, name)


def test_task_by_attribute_and_by_id(shop: str) -> None:
    """A task is found by its name in the module and by its id."""
    assert load_task(f"{shop}:process").id == "shop-order"
    assert load_task(f"{shop}:shop-order").id == "shop-order"


def test_only_task_needs_no_name(write: Write) -> None:
    """A file with one task of its own needs no name."""
    file = write("lonely.py", ONE.format(id="lonely"))
    assert load_task(str(file)).id == "lonely"


def test_imported_tasks_are_not_counted(write: Write) -> None:
    """Tasks that a module has only imported do not make its own ambiguous."""
    write("helper.py", ONE.format(id="helper"))
    file = write("main_one.py", f"from helper import only as other\n{ONE.format(id='main-one')}")
    assert load_task(str(file)).id == "main-one"


def test_module_is_named_as_others_name_it(write: Write) -> None:
    """A file in a package is imported under its full name, so that ids and classes are the same for everyone."""
    write("shelf/__init__.py", "")
    write("shelf/inner/__init__.py", "")
    file = write("shelf/inner/deep.py", "from flowkit import task\n@task\ndef dig() -> None: ...\n")
    assert load_task(str(file)).id == "shelf.inner.deep:dig"
    assert load_code(str(file.parent / "__init__.py")) is sys.modules["shelf.inner"]


def test_module_by_its_name(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is looked for in the working directory first, as `python -m` does."""
    file = write("by_name.py", ONE.format(id="by-name"))
    monkeypatch.chdir(file.parent)
    assert load_task("by_name:only").id == "by-name"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere.py:task", "does not exist"),
        ("/:task", "is a folder"),
        ("no_such_module:task", "no module 'no_such_module'"),
        ("json.nothing:task", "no module 'json.nothing'"),
    ],
)
def test_code_that_is_not_there(target: str, words: str, imports: None) -> None:
    """Code that cannot be found is named, with where it was looked for."""
    del imports
    with pytest.raises(ConfigurationError, match=words):
        load_task(target)


def test_code_that_fails_shows_the_users_lines(write: Write) -> None:
    """A module that raises while it is imported shows its own line, not those of the import system."""
    file = write("broken.py", "value = 1 / 0\n")
    with pytest.raises(ConfigurationError) as caught:
        load_task(f"{file}:task")
    text = str(caught.value)
    assert "value = 1 / 0" in text
    assert "ZeroDivisionError" in text
    assert "importlib" not in text


def test_missing_import_of_the_users_code_is_no_missing_target(write: Write) -> None:
    """If the module is there but imports what is not, that import is shown."""
    file = write("needy.py", "import not_installed_anywhere\n")
    with pytest.raises(ConfigurationError, match=r"could not be imported(?s:.*)import not_installed_anywhere"):
        load_task(f"{file}:task")


def test_name_taken_by_another_module_is_refused(write: Write) -> None:
    """A file whose name belongs to a module that is imported already would be that module: it is refused."""
    file = write("json.py", "")
    with pytest.raises(ConfigurationError, match="that name is taken by"):
        load_code(str(file))


def test_dotted_file_name_is_refused(write: Write) -> None:
    """A file name with a dot in it cannot be a module's name."""
    with pytest.raises(ConfigurationError, match="rename the file"):
        load_code(str(write("a.b.py", "")))


def test_unknown_task_gets_a_suggestion(shop: str) -> None:
    """A misspelt task is answered with the nearest one, else with all there are."""
    with pytest.raises(ConfigurationError, match="did you mean 'process'"):
        load_task(f"{shop}:proces")
    with pytest.raises(ConfigurationError, match="it has 'asynchronous', 'group', 'leave'"):
        load_task(f"{shop}:zzz")


def test_functions_and_steps_are_no_tasks(shop: str) -> None:
    """A plain function, or a step, is named as what has to be decorated."""
    for name in ("plain", "reserve"):
        with pytest.raises(ConfigurationError, match=f"'{name}' is no task; decorate it"):
            load_task(f"{shop}:{name}")


def test_several_tasks_need_a_name(shop: str) -> None:
    """A file with several tasks does not guess."""
    with pytest.raises(ConfigurationError, match="so say which"):
        load_task(shop)


def test_file_without_tasks(write: Write) -> None:
    """A file without any task says so, with and without a name."""
    file = write("taskless.py", "value = 1\n")
    with pytest.raises(ConfigurationError, match="defines no task"):
        load_task(str(file))
    with pytest.raises(ConfigurationError, match="nor any other"):
        load_task(f"{file}:task")
