"""Where the storage URL comes from, what is wrong with it, and that no error shows its secrets."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.config import ResolvedUrl, redact, storage_url
from flowkit.errors import ConfigurationError

CONFIGURED = '[tool.flowkit]\nstorage = "redis://cache"\n'


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """A function that makes a project of the given pyproject.toml and gives its folder."""

    def make(pyproject: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(pyproject, encoding="utf-8")
        return tmp_path

    return make


def test_argument_comes_first(project: Callable[[str], Path]) -> None:
    """An argument wins over environment and configuration."""
    found = storage_url("memory:", environ={"FLOWKIT_STORAGE": "disk:a"}, cwd=project(CONFIGURED))

    assert found == ResolvedUrl("memory:", "the argument")


def test_environment_comes_second(project: Callable[[str], Path]) -> None:
    """The environment variable wins over the configuration."""
    found = storage_url(None, environ={"FLOWKIT_STORAGE": "disk:a"}, cwd=project(CONFIGURED))

    assert found == ResolvedUrl("disk:a", "FLOWKIT_STORAGE")


def test_pyproject_comes_third(project: Callable[[str], Path]) -> None:
    """A variable that is set but empty is no choice; the configuration is."""
    folder = project(CONFIGURED)

    found = storage_url(None, environ={"FLOWKIT_STORAGE": ""}, cwd=folder)

    assert found == ResolvedUrl("redis://cache", str(folder / "pyproject.toml"))


def test_default_comes_last(tmp_path: Path) -> None:
    """With nothing said the storage is a folder of the working directory."""
    assert storage_url(None, environ={}, cwd=tmp_path) == ResolvedUrl("disk:.flowkit", "the default")


def test_process_is_asked_by_default(project: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without further arguments the process's environment and working directory count."""
    monkeypatch.chdir(project(CONFIGURED))
    monkeypatch.delenv("FLOWKIT_STORAGE", raising=False)
    assert storage_url(None).url == "redis://cache"

    monkeypatch.setenv("FLOWKIT_STORAGE", "memory:")
    assert storage_url(None).url == "memory:"


@pytest.mark.parametrize(
    "pyproject", ["", "[project]\nname = 'x'\n", "[tool.flowkit]\n", "[tool.other]\nstorage = 1\n"]
)
def test_pyproject_that_does_not_say(project: Callable[[str], Path], pyproject: str) -> None:
    """A configuration that says nothing of flowkit leaves the default."""
    assert storage_url(None, environ={}, cwd=project(pyproject)).source == "the default"


def test_nearest_pyproject_counts(project: Callable[[str], Path]) -> None:
    """The search goes upward and ends at the first pyproject.toml, as a project ends there."""
    folder = project(CONFIGURED)
    inner = folder / "package" / "module"
    inner.mkdir(parents=True)
    assert storage_url(None, environ={}, cwd=inner).url == "redis://cache"

    (folder / "package" / "pyproject.toml").write_text("[project]\n")
    assert storage_url(None, environ={}, cwd=inner).url == "disk:.flowkit"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("disk:state", "disk:{folder}/state"),
        ("disk:./state?durability=process", "disk:{folder}/state?durability=process"),
        ("disk:../state", "disk:{folder}/../state"),
        ("disk:/srv/state", "disk:/srv/state"),
        ("disk:~/state", "disk:~/state"),
        ("memory:", "memory:"),
        ("redis://cache/0", "redis://cache/0"),
    ],
)
def test_relative_disk_path_starts_at_its_file(project: Callable[[str], Path], written: str, expected: str) -> None:
    """A path in a pyproject.toml names one place, from whichever folder below the program is started."""
    folder = project(f'[tool.flowkit]\nstorage = "{written}"\n')
    (folder / "inner").mkdir()

    assert storage_url(None, environ={}, cwd=folder / "inner").url == expected.format(folder=folder)


def test_folder_that_no_url_can_name(tmp_path: Path) -> None:
    """A relative path below a folder whose name would end the URL's path is refused, not kept somewhere else."""
    folder = tmp_path / "what?"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[tool.flowkit]\nstorage = "disk:state"\n')

    with pytest.raises(ConfigurationError, match="would end the path in the URL"):
        storage_url(None, environ={}, cwd=folder)


@pytest.mark.parametrize(
    ("pyproject", "complaint"),
    [
        ("[tool.flowkit", "is not valid TOML"),
        ("[tool.flowkit]\nstorage = 5\n", "[tool.flowkit] storage is a int, no URL"),
        ("[tool.flowkit]\nstorage = ''\n", "[tool.flowkit] storage is empty"),
        ("[tool.flowkit]\nstorrage = 'disk:a'\n", "has no key 'storrage'; did you mean 'storage'?"),
        ("[tool.flowkit]\nstorage = 'disk:a'\nlease = 1\n", "has no key 'lease'; it may hold: storage"),
        ("[tool]\nflowkit = 'disk:a'\n", "[tool.flowkit] is no table"),
        ("tool = 1\n", "[tool.flowkit] is no table"),
    ],
    ids=["broken", "number", "empty", "misspelt", "unknown", "flat", "no-tools"],
)
def test_wrong_pyproject(project: Callable[[str], Path], pyproject: str, complaint: str) -> None:
    """A configuration that cannot be meant is refused, naming file and key; it never falls back to the default."""
    folder = project(pyproject)

    with pytest.raises(ConfigurationError) as caught:
        storage_url(None, environ={}, cwd=folder)

    assert str(caught.value).startswith(f"{folder / 'pyproject.toml'}: ")
    assert complaint in str(caught.value)


def test_pyproject_in_another_encoding(tmp_path: Path) -> None:
    """A file that is no UTF-8 is no TOML."""
    (tmp_path / "pyproject.toml").write_bytes('[tool.flowkit]\nstorage = "disk:é"\n'.encode("latin-1"))

    with pytest.raises(ConfigurationError, match="is not valid TOML"):
        storage_url(None, environ={}, cwd=tmp_path)


def test_pyproject_that_cannot_be_read(project: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is an error that names it, not a silent default."""
    folder = project(CONFIGURED)

    def refuse(*_args: object, **_options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)

    with pytest.raises(ConfigurationError, match=r"pyproject.toml: cannot be read \(Permission denied\)"):
        storage_url(None, environ={}, cwd=folder)


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("", "the storage argument is empty"),
        (" ", "the storage argument is empty"),
        (5, "the storage argument is a int, no URL"),
        (Path("state"), "for a folder write 'disk:state'"),
    ],
    ids=repr,
)
def test_wrong_argument(argument: str, complaint: str) -> None:
    """An argument that is no URL is refused with what to write."""
    with pytest.raises(ConfigurationError, match=complaint):
        storage_url(argument, environ={})


def test_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a working directory there is no default; the error says to name a storage."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(ConfigurationError, match="working directory is gone"):
        storage_url(None, environ={})
    os.chdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://app:hunter2@cache:6379/0", "redis://app:***@cache:6379/0"),
        ("redis://:hunter2@cache", "redis://:***@cache"),
        ("redis://hunter2@cache", "redis://***@cache"),
        ("redis+sentinel://:hunter2@a:1,b:2/main", "redis+sentinel://:***@a:1,b:2/main"),
        ("redis://app:hun/ter:2?@x#@cache", "redis://app:***@cache"),
        ("redis:/app:hunter2@cache", "redis:/app:***@cache"),
        ("app:hunter2@cache", "app:***@cache"),
        ("redis://cache/0?password=hunter2&db=1", "redis://cache/0?password=***&db=1"),
        ("redis://cache?db=1&sentinel_PASSWORD=hunter2", "redis://cache?db=1&sentinel_PASSWORD=***"),
        ("redis://cache?api_key=hunter2#access_token=hunter2", "redis://cache?api_key=***#access_token=***"),
        ("redis://cache:6379/0?db=1", "redis://cache:6379/0?db=1"),
        ("disk:/srv/me@home/state", "disk:/srv/me@home/state"),
        ("disk:///srv/me@home/state", "disk:///srv/me@home/state"),
        ("memory:", "memory:"),
        ("", ""),
    ],
)
def test_redact(url: str, shown: str) -> None:
    """Passwords and secret parameters are masked, also where the URL is mistyped; the rest stays readable."""
    assert redact(url) == shown


@given(
    st.sampled_from(["redis", "rediss", "redis+sentinel", "mine"]),
    st.sampled_from(["://", ":", ":/"]),
    st.text(alphabet="ab1", max_size=3),
    st.text(alphabet="S:/?#@&=;%", min_size=0, max_size=8).map(lambda noise: f"SECRET{noise}"),
)
def test_no_password_gets_through(scheme: str, separator: str, user: str, password: str) -> None:
    """Whatever characters a password has, and however the slashes are mistyped, it is not shown."""
    assert "SECRET" not in redact(f"{scheme}{separator}{user}:{password}@host:1/0?db=2")


def test_resolved_url_hides_its_password_when_shown() -> None:
    """A resolved URL may be logged as it is."""
    assert repr(ResolvedUrl("redis://:hunter2@cache", "the argument")) == (
        "ResolvedUrl(url='redis://:***@cache', source='the argument')"
    )
