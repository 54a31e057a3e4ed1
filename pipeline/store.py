"""Decides how one partition's memory becomes durable, who may write it, and what each crash leaves behind.

    <memory.path>/<topic>/p-00007/rows-<epoch>-<n>.arrow      immutable rows, Arrow IPC file format
    <memory.path>/<topic>/p-00007/manifest-<number>.json      immutable; the newest names every live file

A commit, in this order, and what a crash right after each step leaves:

1. rows file written, fsync of it         a file no manifest names: never read, removed by the next claim
2. fsync of the directory                 the same; a manifest can never be on the disk before the rows it names
3. manifest under a temporary name, fsync a temporary file: never read, removed by the next claim
4. link to `manifest-<number + 1>.json`   the commit stands for readers; a power cut may still take it back, whole
5. fsync of the directory                 durable: only now is anything acknowledged
6. manifests before the last two removed  nothing; what stays is removed later

Merging and forgetting go the same way and remove the files they replace after step 5; a crash before that leaves files
no manifest names. Retention and sweeping delete only what a readable newest manifest tells them to.

The numbers are the fence. To claim a partition is to write the next manifest with the next epoch; whoever held it
before cannot create that number again, and gets `StaleEpoch`. A keeper that slept so long that the number was used
and swept is found out because its own last manifest, which is older, was swept before.
"""

from collections.abc import Sequence
from dataclasses import replace

from standwatch.configs.schema import MemoryConfig
from standwatch.pipeline.errors import BadInput, StaleEpoch, Unavailable
from standwatch.pipeline.files import Files
from standwatch.pipeline.manifest import (
    MANIFEST,
    ROWS,
    TEMPORARY,
    FeedState,
    Manifest,
    RowFile,
    decode,
    manifest_name,
    partition_directory,
    rows_name,
)
from standwatch.pipeline.rowfiles import into_files, is_whole, merge_files, write_batches
from standwatch.pipeline.types import TokenBatch
from standwatch.pipeline.upkeep import forgotten, merged, to_forget, to_merge

_ATTEMPTS = 50  # others may commit while we look; each attempt is a directory listing and one small file


def newest_manifest(files: Files, topic: str, partition: int, known: Manifest | None = None) -> Manifest | None:
    """What the partition's memory is now; None when nobody has ever claimed it. Raises `BadInput` when damaged.

    `known` is returned as it is while it is still the newest.
    """
    directory = partition_directory(topic, partition)
    names: list[str] = []
    for _ in range(_ATTEMPTS):
        names = files.names(directory)
        number = _newest_number(names)
        if number == 0:
            if any(ROWS.fullmatch(name) for name in names):
                continue  # or is this listing just old?
            return None
        if known is not None and known.number == number:
            return known
        name = f"{directory}/{manifest_name(number)}"
        try:
            data = files.read(name)
        except FileNotFoundError:
            continue  # two commits have passed since the listing
        found = decode(data, files.path(name))
        if (found.topic, found.partition, found.number) != (topic, partition, number):
            raise BadInput(
                f"{files.path(name)}: belongs to {found.topic}/{found.partition} as number {found.number}; "
                "it was copied or renamed: move it back"
            )
        return found
    if _newest_number(names) == 0:
        raise BadInput(
            f"{files.path(directory)}: holds rows but no manifest that names them; "
            "restore the newest manifest-*.json, or move the directory away to start empty"
        )
    raise Unavailable(f"{files.path(directory)}: changes faster than it can be read")


def _newest_number(names: Sequence[str]) -> int:
    return max((int(match[1]) for match in map(MANIFEST.fullmatch, names) if match), default=0)


class PartitionStore:
    """The only writer of one partition, as long as its epoch is the newest."""

    def __init__(self, files: Files, claimed: Manifest) -> None:
        self._files = files
        self._directory = claimed.directory
        self._written = 0  # rows files begun in this epoch
        self._unsure = False  # a step failed after which only the disk knows whether the commit stands
        self._replaced = False  # another keeper has claimed the partition, and we have found out
        self._check_at = 0  # number of files at which there may be something to merge or forget
        self.damaged: set[str] = set()
        self.manifest = claimed

    @classmethod
    def claim(cls, files: Files, topic: str, partition: int) -> "PartitionStore":
        """Become the writer. Whoever was it before is refused from now on, also while it still lives."""
        if not files.local:
            raise BadInput(f"memory.path: {files.root!r} is not a local directory; only reading works elsewhere")
        directory = partition_directory(topic, partition)
        files.make_directory(directory)
        for _ in range(_ATTEMPTS):
            found = newest_manifest(files, topic, partition) or Manifest(topic, partition)
            claimed = replace(found, number=found.number + 1, epoch=found.epoch + 1)
            if not files.put_if_absent(f"{directory}/{manifest_name(claimed.number)}", claimed.encode()):
                continue
            if _newest_number(files.names(directory)) != claimed.number:
                continue  # the number was free only because it had been used and swept
            store = cls(files, claimed)
            store._sweep()
            return store
        raise StaleEpoch(f"{files.path(directory)}: others kept claiming this partition; is it run more than once?")

    def commit(self, batches: Sequence[TokenBatch], next_offset: int | None, now_ms: int) -> None:
        """Make rows and position durable together. Batches of one feed follow each other and what is stored.

        When this raises `StaleEpoch`, or any error after the rows were written, the store takes nothing more.
        """
        self._check_usable()
        old = self.manifest
        feeds = dict(old.feeds)
        for batch in batches:
            state = feeds.get(batch.feed_id)
            feeds[batch.feed_id] = FeedState(
                frame_ms=int(batch.frame_ms[-1]),
                offset=int(batch.frame_offset[-1]),
                frames=(state.frames if state else 0) + len(batch.frame_ms),
                seen_ms=now_ms,
            )
        new = tuple(
            write_batches(self._files, self._directory, self._next_name(), shape, by_feed)
            for shape, by_feed in into_files(batches)
        )
        if new:
            self._files.sync(self._directory)
        self._publish(
            replace(
                old,
                number=old.number + 1,
                next_offset=next_offset,
                appended=old.appended + sum(len(batch.frame_ms) for batch in batches),
                feeds=feeds,
                files=old.files + new,
            )
        )

    def maintain(self, config: MemoryConfig) -> bool:
        """One step of forgetting or merging, of at most `file_bytes`; False when there was nothing to do."""
        self._check_usable()
        if len(self.manifest.files) < self._check_at:
            return False
        gone = to_forget(self.manifest, round(config.retention_hours * 3_600_000))
        if gone:
            self._publish(forgotten(self.manifest, gone), gone)
            self._check_at = 0
            return True
        group = to_merge(self.manifest, config.compact_files, config.file_bytes, self.damaged)
        if group:
            self._check_at = 0
            return self._merge(group)
        fresh = 0
        for file in reversed(self.manifest.files):
            if file.level:
                break
            fresh += 1
        self._check_at = len(self.manifest.files) + max(1, config.compact_files - fresh)
        return False

    def _merge(self, group: tuple[RowFile, ...]) -> bool:
        for old in group:  # a flipped bit must not be copied under a new, matching checksum
            if not is_whole(self._files, self._directory, old):
                self.damaged.add(old.name)
                return True
        into = merge_files(self._files, self._directory, self._next_name(), group)
        self._files.sync(self._directory)
        self._publish(merged(self.manifest, group, into), group)
        return True

    @property
    def is_stale(self) -> bool:
        """Another keeper has claimed the partition since. Asks the disk."""
        newest = newest_manifest(self._files, self.manifest.topic, self.manifest.partition, self.manifest)
        return newest is None or newest.epoch != self.manifest.epoch

    def _publish(self, manifest: Manifest, replaced: Sequence[RowFile] = ()) -> None:
        self._unsure = True
        before = f"{self._directory}/{manifest_name(manifest.number - 1)}"
        created = self._files.put_if_absent(f"{self._directory}/{manifest_name(manifest.number)}", manifest.encode())
        if not created or self._files.size(before) is None:
            self._replaced = True
            self._check_usable()
        self.manifest = manifest
        self._files.remove(f"{self._directory}/{manifest_name(manifest.number - 2)}")
        for old in replaced:
            self._files.remove(f"{self._directory}/{old.name}")
        self._unsure = False

    def _sweep(self) -> None:
        """Remove what crashed commits left. Oldest manifests first: that they go in order is part of the fence."""
        mine = self.manifest
        live = {file.name for file in mine.files}
        for name in sorted(self._files.names(self._directory)):
            manifest, rows, temporary = MANIFEST.fullmatch(name), ROWS.fullmatch(name), TEMPORARY.fullmatch(name)
            if (
                (manifest and int(manifest[1]) < mine.number - 1)
                or (temporary and int(temporary[1]) <= mine.number)
                # Rows of this epoch or a later one are not ours to judge: we may have been replaced already.
                or (rows and int(rows[1]) < mine.epoch and name not in live)
            ):
                self._files.remove(f"{self._directory}/{name}")

    def _next_name(self) -> str:
        self._written += 1
        return rows_name(self.manifest.epoch, self._written)

    def _check_usable(self) -> None:
        # Said as often as asked: calls that were sent before the first answer arrived must not be answered otherwise.
        if self._replaced:
            raise StaleEpoch(
                f"{self._files.path(self._directory)}: epoch {self.manifest.epoch} is over, another keeper has claimed "
                "this partition; this one must stop"
            )
        if self._unsure:
            raise RuntimeError(f"{self._files.path(self._directory)}: a commit failed half-way; open the memory again")
