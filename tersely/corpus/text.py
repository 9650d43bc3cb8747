"""Documents from text files, one a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tersely.corpus.files import ByteStream
from tersely.corpus.read import BOM, MAX_RECORD_BYTES, Batch, OnInvalid, Rejected


def text_batches(
    stream: ByteStream,
    fields: Sequence[str] = (),
    *,
    on_invalid: OnInvalid = OnInvalid.QUARANTINE,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> Iterator[Batch]:
    """A text file is one document, of which every field is ""; one above ``max_record_bytes`` is rejected, as is one that
    is not UTF-8 unless ``on_invalid`` allows it. A part of a file is no document: of one that breaks off, none is given.
    """
    blocks: list[bytes] = []
    total = 0
    batch = Batch.carrying(fields)
    for block in stream.blocks():
        total += len(block)
        if total > max_record_bytes:
            reason = f"the file has more than {max_record_bytes} bytes: split it, or write it as JSON lines"
            batch.rejected.append(Rejected(1, 0, reason))
            break
        blocks.append(block)
    else:
        batch.fault = stream.fault
        if not stream.fault:
            batch.add_raw(b"".join(blocks).removeprefix(BOM), 1, 0, [""] * len(fields), on_invalid)
    batch.lines_read = 1 - bool(batch.fault)
    batch.bytes_read = stream.stored(total)
    yield batch
