"""The command line: `flowkit run`, `flowkit runs`, `flowkit doctor`.

Click parses, rich draws; nothing outside of this package knows either. Machine output (`--json`) goes to stdout alone,
whatever is meant for people to stderr, so that pipes stay clean.
"""

from __future__ import annotations


def main() -> None:
    """The `flowkit` command."""
    from flowkit.cli.app import cli  # noqa: PLC0415  # `import flowkit.cli` must not need click

    cli()
