"""``tersely convert``: a prepared folder in the layouts of other loaders."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tersely.cli.output import count, json_option, print_json, print_table, progress_bar, size

if TYPE_CHECKING:
    from tersely.corpus import ConvertProgress


@click.command("convert", short_help="Write a prepared folder for other loaders.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    metavar="FORMAT,...",
    required=True,
    help="megatron, memmap, mds, litdata; several with commas.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where a folder for each format is made; by default in FOLDER itself.",
)
@json_option
def command(folder: Path, formats: str, out: Path | None, as_json: bool) -> None:
    """Write the finished FOLDER in the layouts of other loaders, each in a folder of its own.

    \b
      megatron   tokens.bin, tokens.idx          Megatron-LM, NeMo, GPT-NeoX: documents
      memmap     tokens.bin, offsets.npy         nanoGPT, OLMo-core, torchtitan: documents
      mds        shard.00000.mds, index.json     mosaicml-streaming: packed rows
      litdata    chunk-0-0.bin, index.json       LitData's TokensLoader, LitGPT: documents

    Labels, where FOLDER has some, are written too: as a second pair labels.bin and labels.idx, as labels.bin, as a column, and
    as a second dataset in labels/.

    What was converted already is left alone, its bytes unread: 'tersely verify FOLDER' checks them with the rest. A conversion
    that was stopped is made again by the same command; to make a damaged one again, remove its folder first.

    \b
    Examples:
      tersely convert prepared/ --format megatron
      tersely convert prepared/ --format mds,litdata --out /data/run7
    """  # noqa: D301 -- click wants the character, not the two signs
    from tersely.corpus import convert

    names = [name.strip() for name in formats.split(",") if name.strip()]
    with conversion_progress() as show:
        done = convert(folder, names, out, show)
    if as_json:
        listed = [
            {
                "format": one.format,
                "folder": str(one.folder),
                "files": one.files,
                "size": one.size,
                "written": one.written,
            }
            for one in done
        ]
        print_json({"folder": str(folder), "conversions": listed})
        return
    rows = [
        (
            one.format,
            f"{one.folder}: {count(one.files)} files, {size(one.size)}"
            + ("" if one.written else ", was there"),
        )
        for one in done
    ]
    print_table(str(folder), rows)


@contextmanager
def conversion_progress() -> Generator[Callable[[ConvertProgress], None]]:
    """A bar for each format, one after the other."""
    with progress_bar("converting", "tokens") as bar:
        tasks: dict[str, Any] = {}

        def show(now: ConvertProgress) -> None:
            if now.format not in tasks:
                tasks[now.format] = bar.add_task("", total=now.tokens_total, note=now.format)
            bar.update(tasks[now.format], completed=now.tokens)

        yield show
