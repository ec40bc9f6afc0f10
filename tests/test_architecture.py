"""The import direction of docs/decisions and pyproject.toml is a failing test, not a wish."""

from importlinter.application.use_cases import create_report, read_user_options
from importlinter.configuration import configure


def test_import_contracts_hold() -> None:
    """Every contract of `[tool.importlinter]` is kept."""
    configure()
    report = create_report(read_user_options())

    assert not report.contains_failures
