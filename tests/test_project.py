"""What a user gets: the wheel, its version, an import that loads nothing extra, and a README that is true."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {name: ROOT / name for name in ("flowkit", "flowkit_disk", "flowkit_redis")} | {
    "flowkit_testing": ROOT / "testing" / "flowkit_testing"
}
BUILD = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"


def build_wheel(tree: Path) -> Path:
    """Build the wheel of a checkout with the build backend alone, so that nothing is downloaded."""
    target = tree / "dist"
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(target)], cwd=tree, check=True, stdout=subprocess.PIPE, text=True
    )
    return target / built.stdout.split()[-1]


def git(tree: Path, *arguments: str) -> None:
    """Run git as someone, whatever is configured here."""
    someone = ("-c", "user.name=Someone", "-c", "user.email=someone@example.com", "-c", "commit.gpgsign=false")
    environ = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *someone, *arguments], cwd=tree, env=environ, check=True, stdout=subprocess.PIPE)  # noqa: S607  # git is where PATH says


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The checkout as an archive of it would be: without git."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("flowkit", "flowkit_disk", "flowkit_redis", "testing"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def test_wheel_holds_the_packages_and_nothing_else(tree: Path) -> None:
    """One wheel holds every package, with its type marker and its data files; no tests, no folders around them."""
    with zipfile.ZipFile(build_wheel(tree)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert names == {
        f"{package}/{file.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_version_without_git(tree: Path) -> None:
    """An archive of the tree builds, with the version that pyproject.toml falls back to."""
    assert build_wheel(tree).name.startswith("flowkit_durable-0.1.0.dev0-")


def test_version_from_git(tree: Path) -> None:
    """A clone without tags builds; a tagged one has its tag's version."""
    git(tree, "init", "--quiet")
    git(tree, "add", "flowkit", "pyproject.toml")
    git(tree, "commit", "--quiet", "--message", "All")
    assert build_wheel(tree).name.startswith("flowkit_durable-0.1.0.dev1-")

    git(tree, "tag", "v1.2.3")
    (tree / ".git" / "info" / "exclude").write_text("*\n")
    assert build_wheel(tree).name.startswith("flowkit_durable-1.2.3-")


@pytest.mark.parametrize("package", ["flowkit", "flowkit_disk"])
def test_import_loads_nothing_optional(package: str) -> None:
    """Importing a package loads no extra, no command line and no test runner; the core loads no storage's library."""
    probe = f"import sys, {package}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, stdout=subprocess.PIPE, text=True).stdout.split()

    assert not {"click", "rich", "redis", "pytest", "_pytest", "opentelemetry", "flowkit.cli"} & set(loaded)
    if package == "flowkit":
        assert not {"diskcache", "flowkit_disk", "flowkit_redis", "flowkit_testing", "redis"} & set(loaded)


@pytest.mark.parametrize(
    ("group", "name", "target"),
    [
        ("console_scripts", "flowkit", "flowkit.cli:main"),
        ("flowkit.storage", "memory", "flowkit.memory:memory_storage"),
        ("flowkit.storage", "disk", "flowkit_disk:disk_storage"),
        ("flowkit.storage", "redis", "flowkit_redis:redis_storage"),
        ("flowkit.storage", "rediss", "flowkit_redis:redis_storage"),
        ("pytest11", "flowkit", "flowkit_testing.plugin"),
    ],
)
def test_entry_points(group: str, name: str, target: str) -> None:
    """What others find flowkit by is registered."""
    (found,) = entry_points(group=group, name=name)

    assert found.value == target


def commands() -> Iterator[str]:
    """The commands of the README: fenced blocks of one line that make their own environment."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL):
        if "python3 -m venv" in block:
            yield block.removesuffix("\n")


def test_readme_has_two_commands_of_one_line() -> None:
    """The README gives two commands that need nothing before them, of one line each, and the files they name exist."""
    found = list(commands())

    assert len(found) == 2
    assert all("\n" not in command for command in found)
    assert all((ROOT / file).is_file() for command in found for file in re.findall(r"examples/\S+", command))


def test_ci_runs_the_command_of_the_readme() -> None:
    """What CI runs is the README's test command, letter by letter."""
    script = ROOT / ".ci" / "run"

    assert script.read_text().splitlines()[-1] == list(commands())[-1]
    assert os.access(script, os.X_OK)


def sessions() -> Iterator[str]:
    """What `nox -l` lists: the functions of the noxfile that are decorated as sessions."""
    for each in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if isinstance(each, ast.FunctionDef) and any("nox.session" in ast.unparse(by) for by in each.decorator_list):
            yield each.name


def test_the_sessions_that_are_written_about_are_there() -> None:
    """CONTRIBUTING lists each session of nox, and a session that README, CONTRIBUTING or the docs name exists."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for file in files for name in re.findall(r"nox -s (\w+)", file.read_text())} - {"NAME"}
    listed = set(re.findall(r"^\| `(\w+)`", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))

    assert named <= set(sessions())
    assert listed == set(sessions())


def test_what_users_are_told_to_commit_is_not_ignored() -> None:
    """Schedules that have broken something once are tried first by everybody, here as elsewhere."""
    assert ".flowkit-regressions" not in (ROOT / ".gitignore").read_text()
