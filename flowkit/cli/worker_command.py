"""`flowkit worker`: take runs of a module's tasks from a storage that processes share, until told to stop."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from types import ModuleType

import click

from flowkit.cli.exits import HELP, Exit
from flowkit.cli.loading import load_code, split_target
from flowkit.cli.options import storage_option
from flowkit.cli.output import reported, say
from flowkit.clock import system_now_ms
from flowkit.config import redact, storage_url
from flowkit.errors import ConfigurationError
from flowkit.flow import Flow
from flowkit.registry import tasks

EXAMPLES = """\b
Examples:
  flowkit worker shop.tasks
  flowkit worker shop/tasks.py --queues default,mail --concurrency 20 --storage disk:/var/lib/shop
  flowkit worker shop.tasks --liveness /run/shop.alive      its file is older than 30 s? then restart it

"""
LINE = "%(asctime)s %(levelname)-7s %(message)s"


@click.command(epilog=EXAMPLES + HELP)
@click.argument("module", metavar="MODULE_OR_FILE")
@click.option(
    "--queues", default="default", show_default=True, metavar="A,B", help="The queues to serve, with commas between."
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="How many runs to advance at a time.",
)
@storage_option
@click.option(
    "--lease", default="30s", show_default=True, metavar="TIME", help="A worker silent for so long is replaced."
)
@click.option(
    "--grace", default="30s", show_default=True, metavar="TIME", help="How long steps may take when it stops."
)
@click.option(
    "--liveness",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Touch this file three times in a lease while all is well; removed at the end.",
)
@click.option("--quiet", "-q", is_flag=True, help="Tell of failures only.")
@click.option("--verbose", "-v", is_flag=True, help="Tell of everything.")
def worker(
    *,
    module: str,
    queues: str,
    concurrency: int,
    storage: str | None,
    lease: str,
    grace: str,
    liveness: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Work on runs of the tasks that a module or file defines, for other processes.

    Any number of workers, on any number of machines, may share a storage. A worker that dies is replaced by the others
    when its lease has ended; on disk at once. Tasks with a schedule (`cron=`) get their runs from the workers.

    SIGTERM and Ctrl-C stop it: it takes nothing more, lets the steps in flight end, and hands back what is unfinished,
    for others to go on with. The exit code is then 0. A second signal stops it at once (143 or 130), and so does the
    end of --grace; the steps in flight run again elsewhere.
    """
    with reported(as_json=False):
        code, name = split_target(module)
        if name is not None:
            raise ConfigurationError(f"{module!r}: a worker takes all tasks of a module; write {code!r}")
        _require_tasks(code, load_code(code))
        url = storage_url(storage)
        names = [queue.strip() for queue in queues.split(",") if queue.strip()]
        with Flow(url.url, worker=False, lease=lease) as flow:
            if flow.engine.capabilities.ends_with_process:
                say("The memory storage is this process's own: nobody else can give this worker runs.")
            made = flow.worker(names, concurrency, liveness)
            _log_to_stderr(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
            _tell_schedules()
            logging.getLogger("flowkit").info("storage %s (from %s)", redact(url.url), url.source)
            if not made.run(grace):
                logging.shutdown()
                os._exit(128 + made.received)  # a step that hangs must not keep the process
        sys.exit(Exit.OK)


def _require_tasks(code: str, module: ModuleType) -> None:
    if not tasks.ids():
        raise ConfigurationError(
            f"{code} ({module.__file__}) defines and imports no task; decorate a function with @task, or name the "
            "module that has them"
        )


def _tell_schedules() -> None:
    now = datetime.fromtimestamp(system_now_ms() / 1000, UTC)
    for spec in tasks.all():
        if spec.cron is not None:
            following = spec.cron.after(now)
            when = "never" if following is None else f"{following:%Y-%m-%d %H:%M %Z}"
            logging.getLogger("flowkit").info(
                "task %s is scheduled: %s (%s), next %s", spec.id, spec.cron.expression, spec.cron.tz, when
            )


def _log_to_stderr(level: int) -> None:
    """Let flowkit's log be read; what the program itself logs is its own business, warnings excepted."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(LINE, "%Y-%m-%d %H:%M:%S"))
    logging.getLogger("flowkit").setLevel(level)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
