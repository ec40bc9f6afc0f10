"""What happens in a run, as a person is told of it."""

from __future__ import annotations

from attrs import frozen

from flowkit.cli.times import seconds_text

SIGNS = {"done": "✓", "failed": "✗", "retry": "↻", "again": "↻", "waits": "…", "replayed": "»", "rollback": "↶"}
COLOURS = {
    "done": "green",
    "failed": "red",
    "retry": "yellow",
    "again": "yellow",
    "waits": "cyan",
    "replayed": "blue",
    "rollback": "magenta",
}


@frozen
class Happened:
    """Something that a person may want to see."""

    what: str  # a key of SIGNS
    name: str
    took_s: float = 0.0
    detail: str = ""


def event_text(event: Happened) -> str:
    """What happened, in one line."""
    sign = SIGNS[event.what]
    match event.what:
        case "waits":
            return f"{sign} {event.name} waits {seconds_text(event.took_s)}"
        case "replayed":
            count = int(event.detail)
            return f"{sign} {count:,} completed step{'' if count == 1 else 's'} answered from the journal"
        case "rollback":
            return f"{sign} what {event.name} completed is being undone"
        case "again":
            return f"{sign} {event.name} starts over after {event.detail or 'an error'}"
        case "retry":
            return f"{sign} {event.name} failed, will be tried again: {event.detail}"
        case _:
            return f"{sign} {event.name}  {seconds_text(event.took_s)}" + (f"  {event.detail}" if event.detail else "")
