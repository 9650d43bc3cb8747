"""``tersely verify``: is a prepared folder what it says it is?"""

from __future__ import annotations

from pathlib import Path

import click

from tersely.cli.output import json_option, print_json

_FAILED = 4


@click.command("verify", short_help="Check a prepared folder to the last byte.")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def command(folder: Path, as_json: bool) -> int:
    """Check FOLDER: counts, checksums, ids, row boundaries, that every document is there once, the tokenizer, and the files
    that 'tersely convert' wrote into it. A folder that holds only such files can be checked too.

    Exits with 4 if anything is wrong.
    """
    from tersely.corpus.formats import verify_conversions
    from tersely.errors import TerselyError
    from tersely.load import load_tokenizer
    from tersely.shards import Manifest, verify

    alone = [] if (folder / "manifest.json").exists() else list(verify_conversions(folder))
    results = alone or list(verify(folder))
    if not alone and results[0][1] is None:
        fault = None
        try:
            found = load_tokenizer(folder / "tokenizer").fingerprint
            if found != Manifest.load(folder).tokenizer.fingerprint:
                fault = f"{folder / 'tokenizer'} is not the tokenizer of the manifest: its fingerprint is {found[:12]}"
        except TerselyError as error:
            fault = str(error)
        results.append(("tokenizer", fault))
        results.extend(verify_conversions(folder))
    faults = [fault for _, fault in results if fault is not None]
    if as_json:
        print_json({"folder": str(folder), "ok": not faults, "checked": len(results), "faults": faults})
    else:
        for name, fault in results:
            click.echo(f"{'FAULT' if fault else 'ok':5}  {fault or name}")
        click.echo(f"{len(faults)} faults" if faults else f"{folder} is sound")
    return _FAILED if faults else 0
