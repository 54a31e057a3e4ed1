"""Decides what a partition's manifest says: which files are its memory, how far each feed is, and where to go on.

A manifest is one JSON document `{"crc32": ..., "body": {...}}`; the checksum covers the body's bytes, so a flipped bit
is refused instead of read. Manifests are numbered and never change. A file's line is written once and reused, so the
cost of a new manifest is one copy of a few kilobytes.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from standwatch.pipeline.errors import BadInput

FORMAT = 2  # changes with that of the rows: an older memory is refused before anything is added to it
MANIFEST = re.compile(r"manifest-(\d{20})\.json")
ROWS = re.compile(r"rows-(\d{10})-(\d{10})\.arrow")
TEMPORARY = re.compile(r"manifest-(\d{20})\.json\.[0-9a-f]+\.tmp")
PARTITION = re.compile(r"p-(\d{5})")


def manifest_name(number: int) -> str:
    return f"manifest-{number:020d}.json"


def rows_name(epoch: int, number: int) -> str:
    """Unique for ever: an epoch has one writer, and it counts."""
    return f"rows-{epoch:010d}-{number:010d}.arrow"


def partition_directory(topic: str, partition: int) -> str:
    return f"{topic}/p-{partition:05d}"


@dataclass(frozen=True, slots=True)
class Span:
    """One feed's rows in one file: one record batch, in the order of time."""

    feed_id: str
    batch: int
    rows: int
    min_ms: int
    max_ms: int
    min_offset: int
    max_offset: int


@dataclass(frozen=True)
class RowFile:
    """One immutable Arrow IPC file. `level` counts how often its rows were merged."""

    name: str
    bytes: int
    crc32: int
    level: int
    token_space: str
    tokens: int  # n of each frame
    width: int  # D
    spans: tuple[Span, ...]

    @cached_property
    def line(self) -> str:
        """Its JSON; written once, reused by every manifest that names the file."""
        return json.dumps(
            {
                "name": self.name,
                "bytes": self.bytes,
                "crc32": self.crc32,
                "level": self.level,
                "token_space": self.token_space,
                "tokens": self.tokens,
                "width": self.width,
                "spans": [
                    [s.feed_id, s.batch, s.rows, s.min_ms, s.max_ms, s.min_offset, s.max_offset] for s in self.spans
                ],
            }
        )


@dataclass(frozen=True, slots=True)
class FeedState:
    """A feed's last frame ever, and how many frames are held. Stays when retention has taken all its rows."""

    frame_ms: int
    offset: int
    frames: int
    seen_ms: int  # wall clock of the commit that brought the last frame


@dataclass(frozen=True)
class Manifest:
    """Everything a partition's memory is at one commit. `files` are in the order of time of each feed in them."""

    topic: str
    partition: int
    number: int = 0
    epoch: int = 0
    next_offset: int | None = None
    appended: int = 0  # rows ever stored
    forgotten: int = 0  # rows that retention took
    feeds: Mapping[str, FeedState] = field(default_factory=dict)
    files: tuple[RowFile, ...] = ()

    @property
    def directory(self) -> str:
        return partition_directory(self.topic, self.partition)

    def encode(self) -> bytes:
        head = json.dumps(
            {
                "format": FORMAT,
                "topic": self.topic,
                "partition": self.partition,
                "number": self.number,
                "epoch": self.epoch,
                "next_offset": self.next_offset,
                "appended": self.appended,
                "forgotten": self.forgotten,
                "feeds": {name: [s.frame_ms, s.offset, s.frames, s.seen_ms] for name, s in self.feeds.items()},
            }
        )
        files = ",\n".join([file.line for file in self.files])
        body = f'{head[:-1]}, "files": [\n{files}\n]}}'.encode()
        return b'{"crc32": "%08x", "body": %s}\n' % (zlib.crc32(body), body)


def check_format(path: str, found: int, reads: int) -> None:
    """Raises `BadInput` that says what to do about a file of another format."""
    if found > reads:
        raise BadInput(f"{path}: is in format {found}, this version reads format {reads}; use a newer standwatch")
    if found < reads:
        raise BadInput(
            f"{path}: was written by an older standwatch, in format {found}, this version reads format {reads}; "
            "set memory.path to a new directory, and use the older version to read this one"
        )


_START = re.compile(rb'\{"crc32": "([0-9a-f]{8})", "body": ')
_END = b"}\n"


def decode(data: bytes, path: str) -> Manifest:
    """The manifest that `encode` wrote. Raises `BadInput` naming `path` when a single bit of it has changed."""
    start = _START.match(data)
    if start is None or not data.endswith(_END):
        raise BadInput(f"{path}: damaged (not a whole manifest); restore this file from a backup")
    body = data[start.end() : -len(_END)]
    if zlib.crc32(body) != int(start[1], 16):
        raise BadInput(f"{path}: damaged (checksum does not match); restore this file from a backup")
    fields = json.loads(body)
    check_format(path, fields["format"], FORMAT)
    return Manifest(
        topic=fields["topic"],
        partition=fields["partition"],
        number=fields["number"],
        epoch=fields["epoch"],
        next_offset=fields["next_offset"],
        appended=fields["appended"],
        forgotten=fields["forgotten"],
        feeds={name: FeedState(*state) for name, state in fields["feeds"].items()},
        files=tuple(
            RowFile(**{**line, "spans": tuple(Span(*span) for span in line["spans"])}) for line in fields["files"]
        ),
    )
