"""What `flowkit run` says at the end, and the exit code that goes with it."""

from __future__ import annotations

import json
import signal

import click

from flowkit.cli.execute import Report, resume_text
from flowkit.cli.exits import Exit, exit_for_status
from flowkit.cli.output import emit, error_document, say
from flowkit.cli.times import seconds_text
from flowkit.cli.tracebacks import has_traceback, user_traceback
from flowkit.codec import Json
from flowkit.notes import notes_of
from flowkit.records import RunStatus


def report(done: Report, *, as_json: bool) -> Exit:
    """Print how the run stands; returns the exit code."""
    code = _exit(done)
    if as_json:
        emit(_document(done, code))
    else:
        _tell(done)
    return code


def _exit(done: Report) -> Exit:
    if done.signal:
        return Exit.TERMINATED if done.signal == signal.SIGTERM else Exit.INTERRUPTED
    if isinstance(done.error, SystemExit):
        return Exit.FAILED
    return exit_for_status(done.status)


def _document(done: Report, code: Exit) -> Json:
    resumable = done.durable and not done.status.finished
    return {
        "run_id": done.order.run_id,
        "task": done.order.spec.id,
        "status": str(done.status),
        "value": done.value,
        "error": None if done.error is None else error_document(done.error),
        "steps": done.steps,
        "replayed": done.replayed,
        "resume": done.order.resume_command if resumable else None,
        "exit_code": int(code),
    }


def _tell(done: Report) -> None:
    if done.signal:
        say(resume_text(done.order, durable=done.durable))
        return
    run_id = done.order.run_id
    match done.status:
        case RunStatus.SUCCEEDED:
            say(f"{_sign('✓', 'green')} run {run_id} succeeded{_measure(done)}")
            if done.value is not None:
                click.echo(json.dumps(done.value, indent=2, ensure_ascii=False))
        case RunStatus.CANCELLED:
            say(f"{_sign('✗', 'yellow')} run {run_id} was cancelled{_measure(done)}")
        case RunStatus.BLOCKED:
            say(f"{_sign('■', 'yellow')} run {run_id} is blocked: {done.error}")
            say(f"When that is mended, go on with:\n  {done.order.resume_command} --again")
        case RunStatus.FAILED:
            _tell_failure(done)
        case _:
            left = isinstance(done.error, SystemExit)
            say(f"run {run_id} is {done.status}{': the task called sys.exit' if left else ''}")
            say(resume_text(done.order, durable=done.durable))


def _tell_failure(done: Report) -> None:
    error, run_id = done.error, done.order.run_id
    if error is not None and has_traceback(error):
        say(user_traceback(error))
    say(f"{_sign('✗', 'red')} run {run_id} failed{_measure(done)}")
    if error is not None and not has_traceback(error):
        say(f"  {type(error).__name__}: {error}")
        for note in notes_of(error):
            say(f"  {note}")
    if done.durable:
        where = _where(done)
        say(f"See what happened:  flowkit runs show {run_id}{where}")
        if done.final:
            say(
                f"What it had done was dealt with, so it ends here. A new attempt:\n  flowkit runs fork {run_id}{where}"
            )
        else:
            say(f"Try again, keeping what was completed:\n  {done.order.resume_command} --again")


def _where(done: Report) -> str:
    _, storage, where = done.order.resume_command.partition(" --storage ")
    return f"{storage}{where}"


def _measure(done: Report) -> str:
    if done.known:
        return " earlier"
    parts = ["1 step" if done.steps == 1 else f"{done.steps:,} steps"]
    if done.replayed:
        parts.append(f"{done.replayed:,} more from the journal")
    return f" in {seconds_text(done.took_s)} ({', '.join(parts)})"


def _sign(sign: str, colour: str) -> str:
    return click.style(sign, fg=colour, bold=True)
