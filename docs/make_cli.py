"""Writes docs/cli.md from the commands themselves. Run it from the root of the project: python docs/make_cli.py."""

from pathlib import Path

import click

from tersely.cli.main import cli

HEAD = """# Command line

Made by `docs/make_cli.py`; do not edit.

Results go to stdout, progress and warnings to stderr (progress only on a terminal). `--json` prints one JSON object.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed, or an input broke off; one sentence on stderr says what and where |
| 2 | wrong usage |
| 3 | done, but more records than `--max-bad` were quarantined |
| 4 | a prepared folder is damaged or unfinished, an archive damaged or none |
| 5 | stopped early; the same command goes on |
| 130, 143 | stopped by Ctrl-C, by SIGTERM |
"""


def page() -> str:
    """The whole page."""
    settings = cli.context_settings | {"terminal_width": 100}
    root = click.Context(cli, info_name="tersely", **settings)
    parts = [HEAD, f"## tersely\n\n```\n{cli.get_help(root)}\n```\n"]
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        context = click.Context(command, info_name=name, parent=root, **settings)
        parts.append(f"## tersely {name}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(page())
