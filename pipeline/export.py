"""Decides how a feed's rows leave the memory for other tools: Parquet or Arrow IPC, by the name's ending."""

from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.types import Window

ALL_TIME = Window(-(2**62), 2**62)


def export_feed(path: str, feed_id: str, window: Window | None, out: Path) -> int:
    """Write the rows of a feed, all of them or those of a window, with thumbnails. Returns how many.

    The file appears whole or not at all, and replaces one that was there. Raises `BadInput` for a feed never seen,
    a window of two token spaces or an ending that is none of .parquet, .arrow, .feather.
    """
    suffix = out.suffix.lower()
    if suffix not in (".parquet", ".arrow", ".feather"):
        raise BadInput(f"out: {out.name!r} ends in neither .parquet nor .arrow; the ending decides the format")
    if not out.parent.is_dir():
        raise BadInput(f"out: there is no directory {str(out.parent)!r}; make it first")
    schema, batches = MemoryReader(path).row_batches(feed_id, window or ALL_TIME)
    unfinished = out.with_name(out.name + ".unfinished")
    try:
        if suffix == ".parquet":
            with pq.ParquetWriter(unfinished, schema) as writer:
                for batch in batches:
                    writer.write_table(pa.Table.from_batches([batch], schema))
        else:
            with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return sum(batch.num_rows for batch in batches)
