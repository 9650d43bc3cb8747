"""``tersely``: the group of commands, loaded one at a time, and how errors leave it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but too many records were quarantined, 4 verification failed,
5 stopped early and resumable, 130 / 143 stopped by Ctrl-C / SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any, NoReturn

import click

import tersely
from tersely.errors import TerselyError

_COMMANDS = {
    "prepare": "Tokenize and pack documents into Arrow shards.",
    "train": "Train a BPE, WordPiece or Unigram vocabulary, or an equal-info code.",
    "convert": "Write a prepared folder for Megatron, MDS, LitData or memory maps.",
    "inspect": "Show what a prepared folder holds; compare tokenizers.",
    "peek": "Show rows of a prepared folder as text.",
    "compress": "Compress a file without loss, to much less than xz.",
    "decompress": "Bring back a file that was compressed.",
    "prefill": "Prefill prompts without padding, and measure what it gains.",
    "swap": "Give a pretrained model another tokenizer.",
    "verify": "Check a prepared folder to the last byte.",
    "doctor": "Say what this machine can run, and why not.",
}
_INTERRUPTED, _TERMINATED = 130, 143


class _LazyGroup(click.Group):
    """Imports a command's file when the command is asked for, so that ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return importlib.import_module(f"tersely.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(tersely.__version__, prog_name="tersely")
def cli() -> None:
    """Make sequences short before a GPU sees them, and never pad them after.

    Results go to stdout, progress to stderr; every command takes --json.
    """


def main() -> NoReturn:
    """Runs the command line and exits with the code of what happened."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo(_stopped("Ctrl-C"), err=True)
        sys.exit(_INTERRUPTED)
    except TerselyError as error:
        click.echo(f"Error: {error}.", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nothing left to say, and nobody to say it to
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {place}{error.strerror or error}.", err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("TERSELY_TRACEBACK"):
            raise
        click.echo(
            f"Error: {type(error).__name__}: {error}. This is a fault of tersely: please report it, with what "
            "TERSELY_TRACEBACK=1 prints.",
            err=True,
        )
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _stopped(how: str) -> str:
    return f"Stopped by {how}. Whole files only are left; a folder without manifest.json is unfinished."


def _stop(signum: int, frame: Any) -> NoReturn:
    """SIGTERM leaves through the same doors as an error, so that unfinished files are removed."""
    click.echo(_stopped("SIGTERM"), err=True)
    raise SystemExit(_TERMINATED)
