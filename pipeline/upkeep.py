"""Decides which files of a partition are merged into one and which are forgotten.

Merging: as soon as `compact_files` neighbours were merged equally often, they become one, up to `file_bytes`; when only
few would fit, they are large enough. So a row is rewritten a few times in its life, however much is remembered, and the
number of files stays small.

Forgetting: a file goes when no row in it is wanted any more. A feed's rows are wanted for the retention time back from
its own last frame, so old footage can be replayed and a memory at rest keeps everything. A feed that has been silent
for the retention time, by the wall clock and by the time of the frames of others on its partition, is not wanted at
all: else every camera that was ever taken down would keep its last day for ever. Both clocks must say so, because one
alone may be wrong or, when old footage is replayed, mean nothing.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace

from standwatch.pipeline.manifest import FeedState, Manifest, RowFile
from standwatch.pipeline.rows import Shape


def to_merge(
    manifest: Manifest, compact_files: int, file_bytes: int, leave: AbstractSet[str] = frozenset()
) -> tuple[RowFile, ...]:
    """Files, in order, that should become one; empty when all is well. Those in `leave` stay as they are."""
    few = max(2, compact_files // 4)
    for run in _runs(manifest.files, leave):
        if len(run) < compact_files:
            continue
        group: list[RowFile] = []
        total = 0
        for file in run:
            if total + file.bytes > file_bytes:
                if len(group) >= few:
                    break
                group, total = [], 0  # so few, rewritten for so little: leave them
            group.append(file)
            total += file.bytes
        if len(group) >= few:
            return tuple(group)
    return ()


def _runs(files: tuple[RowFile, ...], leave: AbstractSet[str]) -> Iterator[list[RowFile]]:
    """Runs of one level and shape. A file of another kind in between is passed over unless it shares a feed with the
    run: then merging across it would put that feed's rows out of order.
    """
    open_runs: dict[tuple[Shape, int], list[RowFile]] = {}
    for file in files:
        kind = (Shape.of(file), file.level)
        feeds = {span.feed_id for span in file.spans}
        for other in [key for key, run in open_runs.items() if key != kind and _share(run, feeds)]:
            yield open_runs.pop(other)
        if file.name in leave:
            yield open_runs.pop(kind, [])
        else:
            open_runs.setdefault(kind, []).append(file)
    yield from open_runs.values()


def _share(run: list[RowFile], feeds: set[str]) -> bool:
    return any(span.feed_id in feeds for file in run for span in file.spans)


def merged(manifest: Manifest, group: tuple[RowFile, ...], into: RowFile) -> Manifest:
    """The manifest once `into` stands for `group`."""
    names = {file.name for file in group}
    files: list[RowFile] = []
    for file in manifest.files:
        if file is group[-1]:
            files.append(into)
        elif file.name not in names:
            files.append(file)
    return replace(manifest, number=manifest.number + 1, files=tuple(files))


def to_forget(manifest: Manifest, retention_ms: int) -> tuple[RowFile, ...]:
    """Files in which no row is wanted any more."""
    if not manifest.feeds:
        return ()
    last_seen = max(state.seen_ms for state in manifest.feeds.values())
    last_frame = max(state.frame_ms for state in manifest.feeds.values())

    def wanted_from(state: FeedState) -> int:
        silent = min(last_seen - state.seen_ms, last_frame - state.frame_ms) > retention_ms
        return state.frame_ms + 1 if silent else state.frame_ms - retention_ms

    oldest = {feed: wanted_from(state) for feed, state in manifest.feeds.items()}
    return tuple(f for f in manifest.files if all(s.max_ms < oldest[s.feed_id] for s in f.spans))


def forgotten(manifest: Manifest, gone: tuple[RowFile, ...]) -> Manifest:
    """The manifest without some files; how far each feed is stays known."""
    names = {file.name for file in gone}
    feeds = dict(manifest.feeds)
    rows = 0
    for span in (span for file in gone for span in file.spans):
        rows += span.rows
        feeds[span.feed_id] = replace(feeds[span.feed_id], frames=feeds[span.feed_id].frames - span.rows)
    return replace(
        manifest,
        number=manifest.number + 1,
        forgotten=manifest.forgotten + rows,
        feeds=feeds,
        files=tuple(file for file in manifest.files if file.name not in names),
    )
