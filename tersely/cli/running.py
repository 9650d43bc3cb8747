"""How a long job is run: in how many processes, by which engine, which share of it; and what is said when it is stopped."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from tersely.errors import UsageError
from tersely.fork_server import JOB, ensure_server

if TYPE_CHECKING:
    from tersely.corpus.executors import Executor

_HOW = {
    "out",
    "workers",
    "threads",
    "engine",
    "share",
    "as_json",
    "max_bad",
    "fail_empty",
    "allow_changed",
    "dry_run",
    "formats",
}
"""Options that do not decide what the folder holds."""


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of this page, for a command."""
    options = (
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            help="Processes that work; by default one for each processor. The folder does not depend on it.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            help="Threads that tokenize in each process; by default the processors shared out.",
        ),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Processes here, or tasks on a Ray cluster (RAY_ADDRESS, or one started here) whose machines all see --out.",
        ),
        click.option(
            "--shard",
            "share",
            metavar="I/N",
            help="Do the I-th of N shares of the job (from 0), as one of N processes on any machines that all see --out; "
            "'slurm' takes both numbers from Slurm. The last one to end finishes the folder.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_early(engine: str) -> None:
    """Lets the process that workers come from load what they need while this one loads the same: half of a short job."""
    if engine == "local" and processors() > 1:
        ensure_server([JOB])


def executor_of(engine: str, workers: int) -> Executor:
    """What runs the tasks."""
    if engine == "ray":
        from tersely.corpus.executors import RayExecutor

        return RayExecutor()
    from tersely.corpus.executors import LocalExecutor

    return LocalExecutor(workers, preload=[JOB])


def share_of(text: str | None) -> tuple[int, int]:
    """The share that ``--shard`` names: (0, 1), the whole job, if it was not given."""
    if text is None:
        return 0, 1
    if text == "slurm":
        return _slurm_share()
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise UsageError(
            f"--shard {text!r} is no share: write I/N with I from 0 to N - 1, such as 0/8, or slurm"
        )
    return int(number), int(count)


def _slurm_share() -> tuple[int, int]:
    """The share of this process: of a job array its element, of a job started by srun its task, of both both."""
    number, count = _from_slurm("SLURM_PROCID", 0), _from_slurm("SLURM_NTASKS", 1)
    element = _from_slurm("SLURM_ARRAY_TASK_ID", None)
    if element is None and "SLURM_PROCID" not in os.environ:
        raise UsageError(
            "--shard slurm: neither SLURM_ARRAY_TASK_ID nor SLURM_PROCID is set: start it with sbatch --array or srun, or "
            "write I/N"
        )
    if element is not None:
        first, last = _from_slurm("SLURM_ARRAY_TASK_MIN", 0), _from_slurm("SLURM_ARRAY_TASK_MAX", None)
        elements, step = _from_slurm("SLURM_ARRAY_TASK_COUNT", 1), _from_slurm("SLURM_ARRAY_TASK_STEP", 1)
        if last is not None and last - first != step * (elements - 1):
            raise UsageError(
                f"--shard slurm: the job array has {elements} elements between {first} and {last}, so it has gaps: "
                "number it without, or write I/N"
            )
        number, count = (element - first) // step * count + number, elements * count
    return number, count


def _from_slurm(name: str, default: Any) -> Any:
    given = os.environ.get(name, "")
    if given and not given.isdecimal():
        raise UsageError(f"--shard slurm: {name} is {given!r}, which is no number: write I/N")
    return int(given) if given else default


def command_of(context: click.Context) -> str:
    """The command line as given, but for what does not decide what is made."""
    from click.core import ParameterSource

    words, inputs = ["tersely", context.info_name or ""], list[str]()
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        if name in _HOW or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if isinstance(parameter, click.Argument):
            inputs += map(str, value or ())
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            for item in value if isinstance(value, tuple) else (value,):
                words += [parameter.opts[0], str(item)]
    words += ["--", *inputs] if any(given.startswith("-") and given != "-" for given in inputs) else inputs
    return shlex.join(words)


@contextmanager
def resumable() -> Generator[None]:
    """Says, when a signal stops what is inside, that nothing is lost, and the command that goes on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        click.echo(f"What is done is kept. To go on: {shlex.join(['tersely', *sys.argv[1:]])}", err=True)
        raise
