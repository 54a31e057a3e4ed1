"""Decides how token batches, and files merged into one, become a file of rows with the entry that describes it."""

from collections.abc import Mapping, Sequence

from standwatch.pipeline.files import Files, NewFile
from standwatch.pipeline.manifest import RowFile, Span
from standwatch.pipeline.rows import (
    RowReader,
    RowWriter,
    Shape,
    give_back_memory,
    joined,
    row_schema,
    to_record_batch,
    write_rows,
)
from standwatch.pipeline.types import TokenBatch

ByFeed = Mapping[str, Sequence[TokenBatch]]  # the batches of each feed follow each other in time


def into_files(batches: Sequence[TokenBatch]) -> list[tuple[Shape, ByFeed]]:
    """One file for each shape; more only where a feed went back to a shape it had left."""
    out: list[tuple[Shape, dict[str, list[TokenBatch]]]] = []
    last: dict[str, int] = {}
    for batch in batches:
        shape = Shape.of(batch)
        at = next((i for i in range(last.get(batch.feed_id, 0), len(out)) if out[i][0] == shape), len(out))
        if at == len(out):
            out.append((shape, {}))
        out[at][1].setdefault(batch.feed_id, []).append(batch)
        last[batch.feed_id] = at
    return [(shape, by_feed) for shape, by_feed in out]


def write_batches(files: Files, directory: str, name: str, shape: Shape, by_feed: ByFeed) -> RowFile:
    """A new file of level 0, on the disk but for its name."""
    schema = row_schema(shape)
    with files.written(f"{directory}/{name}") as file:
        write_rows(file, schema, [to_record_batch(schema, batches) for batches in by_feed.values()])
    spans = []
    for index, (feed_id, batches) in enumerate(by_feed.items()):
        first, last = batches[0], batches[-1]
        rows = sum(len(batch.frame_ms) for batch in batches)
        times = int(first.frame_ms[0]), int(last.frame_ms[-1])
        offsets = int(first.frame_offset[0]), int(last.frame_offset[-1])
        spans.append(Span(feed_id, index, rows, *times, *offsets))
    return _entry(name, file, 0, shape, spans)


def merge_files(files: Files, directory: str, name: str, group: Sequence[RowFile]) -> RowFile:
    """One file, of the next level, with all rows of a group of one shape; on the disk but for its name."""
    shape = Shape.of(group[0])
    schema = row_schema(shape)
    places: dict[str, list[tuple[RowReader, Span]]] = {}
    for old in group:
        reader = RowReader(files, f"{directory}/{old.name}")
        for span in old.spans:
            places.setdefault(span.feed_id, []).append((reader, span))
    spans = []
    with files.written(f"{directory}/{name}") as file:
        writer = RowWriter(file, schema)
        for index, (feed_id, found) in enumerate(places.items()):
            writer.write(joined(schema, [reader.batch(span.batch).arrow for reader, span in found]))
            first, last = found[0][1], found[-1][1]
            rows = sum(span.rows for _, span in found)
            spans.append(Span(feed_id, index, rows, first.min_ms, last.max_ms, first.min_offset, last.max_offset))
        writer.close()
    entry = _entry(name, file, group[0].level + 1, shape, spans)
    give_back_memory()
    return entry


def is_whole(files: Files, directory: str, entry: RowFile) -> bool:
    """Whether a file still has the length and checksum it was written with."""
    try:
        return files.checksum(f"{directory}/{entry.name}") == (entry.bytes, entry.crc32)
    except FileNotFoundError:
        return False


def _entry(name: str, file: NewFile, level: int, shape: Shape, spans: Sequence[Span]) -> RowFile:
    return RowFile(
        name=name,
        bytes=file.bytes,
        crc32=file.crc32,
        level=level,
        token_space=shape.token_space,
        tokens=shape.tokens,
        width=shape.width,
        spans=tuple(spans),
    )
