"""Decides whether a memory is sound: each file as its manifest says, each frame of a partition once and in order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.files import Files
from standwatch.pipeline.manifest import MANIFEST, ROWS, Manifest, RowFile, Span
from standwatch.pipeline.memory import partitions_in
from standwatch.pipeline.rows import RowBatch, RowReader, Shape
from standwatch.pipeline.store import newest_manifest

_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. Notes are worth knowing and no fault."""

    where: str
    what: str
    is_error: bool = True


def verify(path: str) -> list[Finding]:
    """Read every row of a memory and say what is wrong where; no finding that `is_error` means it is sound.

    Safe while keepers write. Raises `BadInput` when there is no such directory.
    """
    files = Files(path)
    out = []
    for topic, partition in partitions_in(files):
        out += _partition(files, topic, partition)
    return out


def _partition(files: Files, topic: str, partition: int) -> list[Finding]:
    out: list[Finding] = []
    for _ in range(_ATTEMPTS):
        try:
            manifest = newest_manifest(files, topic, partition)
        except BadInput as error:
            return [Finding(f"{topic}/{partition}", str(error))]
        if manifest is None:
            return []
        names = files.names(manifest.directory)
        out = [*_files(files, manifest), *_feeds(files, manifest), *_positions(files, manifest)]
        missing = any(files.size(f"{manifest.directory}/{file.name}") is None for file in manifest.files)
        if missing and newest_manifest(files, topic, partition, manifest) is not manifest:
            continue  # merged or forgotten while we looked
        return [*out, *_orphans(files, manifest, names)]
    return out


def _files(files: Files, manifest: Manifest) -> Iterator[Finding]:
    last: dict[str, Span] = {}
    for entry in manifest.files:
        name = f"{manifest.directory}/{entry.name}"
        where = files.path(name)
        try:
            length, crc32 = files.checksum(name)
            if length != entry.bytes:
                yield Finding(where, f"has {length} bytes, its manifest says {entry.bytes}")
            elif crc32 != entry.crc32:
                yield Finding(where, "checksum does not match its manifest: bytes were changed after it was written")
            else:
                yield from _rows(where, RowReader(files, name), manifest, entry)
        except FileNotFoundError:
            yield Finding(where, "is missing, its manifest names it")
        except BadInput as error:
            yield Finding(where, str(error))
        for span in entry.spans:
            before = last.get(span.feed_id)
            if before is not None and span.min_ms <= before.max_ms:
                yield Finding(where, f"feed {span.feed_id!r}: frames from {span.min_ms} ms on are not all after those "
                              f"of the file before, which end at {before.max_ms} ms")  # fmt: skip
            if before is not None and span.min_offset < before.max_offset:
                yield Finding(where, f"feed {span.feed_id!r}: offset {span.min_offset} comes after {before.max_offset}")
            last[span.feed_id] = span


def _rows(where: str, reader: RowReader, manifest: Manifest, entry: RowFile) -> Iterator[Finding]:
    if reader.shape != Shape.of(entry):
        yield Finding(where, f"holds {reader.shape}, its manifest says {Shape.of(entry)}")
    if reader.batches != len(entry.spans):
        yield Finding(where, f"holds {reader.batches} record batches, its manifest says {len(entry.spans)}")
        return
    for span in entry.spans:
        rows = reader.batch(span.batch)
        for what in _span(rows, span, manifest.partition):
            yield Finding(where, f"feed {span.feed_id!r}: {what}")


def _span(rows: RowBatch, span: Span, partition: int) -> Iterator[str]:
    frame_ms, offset = rows.frame_ms, rows.offset
    if rows.rows == 0 or rows.rows != span.rows:
        yield f"{rows.rows} rows, the manifest says {span.rows}"
        return
    if rows.feed_ids() != {span.feed_id}:
        yield f"rows of {sorted(rows.feed_ids())} in its record batch"
    if rows.partitions() != {partition}:
        yield f"rows of partitions {sorted(rows.partitions())} in partition {partition}"
    if np.any(np.diff(frame_ms) <= 0):
        at = int(np.argmax(np.diff(frame_ms) <= 0))
        yield f"frame {frame_ms[at + 1]} ms comes after {frame_ms[at]} ms: twice or out of order"
    if np.any(np.diff(offset) < 0):
        yield "offsets go backwards"
    found = int(frame_ms[0]), int(frame_ms[-1]), int(offset[0]), int(offset[-1])
    if found != (span.min_ms, span.max_ms, span.min_offset, span.max_offset):
        yield f"times and offsets {found} are not those of the manifest"


def _feeds(files: Files, manifest: Manifest) -> Iterator[Finding]:
    where = files.path(manifest.directory)
    spans: dict[str, list[Span]] = {}
    for span in (span for file in manifest.files for span in file.spans):
        spans.setdefault(span.feed_id, []).append(span)
    for feed_id in sorted(spans.keys() - manifest.feeds.keys()):
        yield Finding(where, f"feed {feed_id!r}: has rows but no mark, so replays of it would be stored twice")
    for feed_id, state in sorted(manifest.feeds.items()):
        held = spans.get(feed_id, [])
        rows = sum(span.rows for span in held)
        if rows != state.frames:
            yield Finding(where, f"feed {feed_id!r}: {rows} rows in files, the manifest counts {state.frames}")
        if held and (held[-1].max_ms, held[-1].max_offset) != (state.frame_ms, state.offset):
            yield Finding(where, f"feed {feed_id!r}: its mark is at {state.frame_ms} ms, offset {state.offset}, its "
                          f"last row at {held[-1].max_ms} ms, offset {held[-1].max_offset}")  # fmt: skip
    rows = sum(span.rows for held in spans.values() for span in held)
    if rows != manifest.appended - manifest.forgotten:
        yield Finding(
            where, f"{rows} rows, but {manifest.appended} were appended and {manifest.forgotten} forgotten by retention"
        )


def _positions(files: Files, manifest: Manifest) -> Iterator[Finding]:
    ahead = [feed_id for feed_id, state in manifest.feeds.items() if state.offset >= (manifest.next_offset or 0)]
    if ahead:  # right after a crash: the rest of those records is still to come
        yield Finding(
            files.path(manifest.directory),
            f"reading goes on from offset {manifest.next_offset or 'the beginning'}, which the newest rows of "
            f"{', '.join(sorted(ahead))} have reached already: they will be read again and dropped as replays",
            is_error=False,
        )


def _orphans(files: Files, manifest: Manifest, names: list[str]) -> Iterator[Finding]:
    live = {file.name for file in manifest.files}
    for name in sorted(names):
        where = files.path(f"{manifest.directory}/{name}")
        if ROWS.fullmatch(name) and name not in live:
            yield Finding(where, "is named by no manifest: of a commit under way or cut off", is_error=False)
        elif not (ROWS.fullmatch(name) or MANIFEST.fullmatch(name)):
            yield Finding(where, "is no part of the memory: of a commit under way or cut off", is_error=False)
