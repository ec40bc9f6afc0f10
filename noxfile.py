"""The chores: `nox` runs what CI runs, `nox -s NAME` one of them, `nox -l` lists them.

What only reads the source uses the tools of the environment that nox itself runs in; what runs the product gets an
environment of its own, with the built wheel in it.
"""

import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "types", "arch", "docs", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

# Keeps the working directory off the import path, in subprocesses too: the installed wheel is what is tested.
INSTALLED_ONLY = {"PYTHONSAFEPATH": "1"}


def install_wheel(session: nox.Session, extra: str) -> None:
    """Build the wheel and install it with one extra, so that what is tested is what would be shipped."""
    target = Path(session.create_tmp()) / "dist"
    for old in target.glob("*.whl"):
        old.unlink()
    session.run("pip", "wheel", "-q", "--no-deps", "-w", str(target), ".", silent=True)
    (wheel,) = target.glob("*.whl")
    session.install("-q", f"{wheel}[{extra}]")
    session.install("-q", "--no-deps", "--force-reinstall", str(wheel))


def soak(session: nox.Session, *arguments: str) -> None:
    """Run tests that take minutes each, against the built wheel."""
    install_wheel(session, "test")
    quiet = ("-o", "faulthandler_timeout=0")  # else the stacks of a test that takes so long would be shown
    session.run("pytest", *quiet, *arguments, *session.posargs, env=INSTALLED_ONLY)


def tool(session: nox.Session, name: str, *arguments: str) -> None:
    """Run a tool of the environment that nox runs in: `pip install -e '.[dev]'` made it."""
    session.run(str(Path(sys.executable).with_name(name)), *arguments, external=True)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style and suspicious code."""
    tool(session, "ruff", "check")
    tool(session, "ruff", "format", "--check")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Strict mypy on everything; pyright on the public API."""
    tool(session, "mypy")
    tool(session, "pyright", "--pythonpath", sys.executable)


@nox.session(venv_backend="none")
def arch(session: nox.Session) -> None:
    """The import contracts of `[tool.importlinter]`."""
    tool(session, "lint-imports", "--no-logo", "--no-cache")


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """The documentation, where a warning is an error."""
    tool(session, "sphinx-build", "-q", "-W", "--keep-going", "-n", "-b", "html", "docs", "docs/_build/html")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, against the built wheel; arguments go to pytest."""
    install_wheel(session, "test")
    session.run("pytest", "-n", "auto", *session.posargs, env=INSTALLED_ONLY)


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage of the tests, subprocesses included; under 95 % it fails."""
    install_wheel(session, "test")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "auto", *session.posargs, env=INSTALLED_ONLY)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session
def demo(session: nox.Session) -> None:
    """Archive the interpreter's library, killed 20 times on the way, and hold the outcome against the originals."""
    install_wheel(session, "test")
    session.run("pytest", "-s", "tests/soak/soak_archive.py", *session.posargs, env=INSTALLED_ONLY)


@nox.session
def storm(session: nox.Session) -> None:
    """A minute of work for processes that are killed at random, and an audit after it."""
    soak(session, "-s", "tests/soak/soak_workers.py")


@nox.session
def explore(session: nox.Session) -> None:
    """Every workflow of up to three operations, killed at every point any number of times; slow."""
    soak(session, "-n", "auto", "tests/soak/soak_programs.py")


@nox.session
def real(session: nox.Session) -> None:
    """The corpus in processes that are really killed and stopped, on disk and Redis, held against pretended ones."""
    soak(session, "-n", "auto", "tests/soak/soak_real.py")


@nox.session
def storm_redis(session: nox.Session) -> None:
    """Ten minutes of the same on a Redis server that is killed and started again, too."""
    soak(session, "-s", "tests/soak/soak_redis.py")


@nox.session
def redis_all(session: nox.Session) -> None:
    """Promises, rules, harness and sequencer with everything on a Redis server; the tests alone take a part of it."""
    install_wheel(session, "test")
    where = session.posargs or ("tests/promises", "tests/rules", "tests/sequencer", "tests/harness")
    unhurried = ("-o", "timeout=0", "-o", "faulthandler_timeout=0")  # an exploration takes thousands of round trips
    session.run("pytest", "-n", "auto", *unhurried, "--flowkit-storage=redis", *where, env=INSTALLED_ONLY)


@nox.session
def redis_server(session: nox.Session) -> None:
    """All tests of Redis on this machine's redis-server; `-- PATH` for another program, such as Redis 8 or Valkey 8."""
    program = session.posargs[0] if session.posargs else shutil.which("redis-server")
    if program is None:
        session.error("no redis-server on the PATH: apt-get install redis-server, or nox -s redis_server -- PATH")
    session.run(program, "--version", external=True)
    install_wheel(session, "test")
    session.run("pytest", "-n", "auto", f"--flowkit-redis-server={program}", "tests/redis", env=INSTALLED_ONLY)


@nox.session
def scale_redis(session: nox.Session) -> None:
    """What a step, a run and a claim cost a Redis server, and what one server and a Cluster carry by that."""
    session.install("-q", "-e", ".[test]")
    session.run("python", "-m", "tests.bench.scale_redis", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks as ratios against the bare stores; `-- --flowkit-record` keeps the numbers."""
    session.install("-q", "-e", ".[test,bench]")
    plugins = ("-p", "no:randomly", "-p", "tests.bench.plugin")
    options = (
        "-o",
        "python_files=bench_*.py",
        "--benchmark-quiet",
        "--flowkit-absolute",
        "--tb=line",
        "--show-capture=no",
    )
    session.run("pytest", *plugins, *options, "tests/bench", *session.posargs)


@nox.session
def compare(session: nox.Session) -> None:
    """A durable step beside the one of DBOS, on the same disk in the same run."""
    session.install("-q", "-e", ".", "dbos")
    session.run("python", "-m", "tests.bench.compare", *session.posargs)
