"""Decides how a record lies in a spool segment: framed, checksummed, and readable while someone still writes.

A segment is the magic and then frames without gaps; its file's name is the offset of its first frame, and offsets
count up by one a frame. A frame, little-endian:

    length  u32   bytes of the body
    crc32c  u32   over the body
    body          timestamp_ms i64 | key length i32 (-1: none) | headers length u32 | key | headers | value
    header        name length u32 | name, UTF-8 | value length u32 | value
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from crc32c import crc32c

from standwatch.pipeline.types import Headers

MAGIC = b"SWSPOOL\x01"
_HEAD = struct.Struct("<II")
_META = struct.Struct("<qiI")
_SIZE = struct.Struct("<I")
_BLOCK_BYTES = 64 * 1024
_SKIP_BLOCK_BYTES = 4 * 1024  # skipping touches one head a frame; reading more only copies video for nothing


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One whole, verified frame; `end` is the position of the next one."""

    timestamp_ms: int
    key: bytes | None
    headers: Headers
    value: bytes
    end: int


def encode_frame(timestamp_ms: int, key: bytes | None, headers: Headers, value: bytes) -> list[bytes]:
    """The frame in pieces, for one gathered write: the value is not copied."""
    packed = b"".join(_encode_headers(headers))
    name = key or b""
    meta = _META.pack(timestamp_ms, -1 if key is None else len(name), len(packed)) + name + packed
    return [_HEAD.pack(len(meta) + len(value), crc32c(value, crc32c(meta))) + meta, value]


def _encode_headers(headers: Headers) -> Iterator[bytes]:
    for name, value in headers:
        encoded = name.encode()
        yield _SIZE.pack(len(encoded)) + encoded + _SIZE.pack(len(value)) + value


def _decode_headers(packed: bytes) -> Headers:
    headers: list[tuple[str, bytes]] = []
    at = 0
    while at < len(packed):
        (length,) = _SIZE.unpack_from(packed, at)
        at += _SIZE.size + length
        (size,) = _SIZE.unpack_from(packed, at)
        headers.append((packed[at - length : at].decode(), packed[at + _SIZE.size : at + _SIZE.size + size]))
        at += _SIZE.size + size
    return tuple(headers)


class SegmentReader:
    """Frames of one open segment file by position. Never returns a frame that is not whole; owns the descriptor.

    A few bytes ahead are kept between calls, so reading on costs the new bytes only. They are dropped whenever they
    turn out not to make a frame: the writer may since have replaced what a crashed one left there.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._block = b""
        self._block_at = 0

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)

    def removed(self) -> bool:
        """Whether the file has no name any more: retention, or someone, deleted it."""
        return os.fstat(self._fd).st_nlink == 0

    def newest_ms(self) -> int:
        """Newest time of all frames, by their heads; where damage hides some, the file's own time counts as well."""
        status = os.fstat(self._fd)
        at, newest_ms = len(MAGIC), -1
        while (end := self.skip(at, status.st_size)) is not None:
            (timestamp_ms, _, _) = _META.unpack(self._bytes(at + _HEAD.size, _META.size, _SKIP_BLOCK_BYTES))
            at, newest_ms = end, max(newest_ms, timestamp_ms)
        return newest_ms if at == status.st_size else max(newest_ms, status.st_mtime_ns // 1_000_000)

    def skip(self, at: int, size: int) -> int | None:
        """Position after the frame at `at`, by its length alone; None unless it lies wholly within `size` bytes."""
        head = self._bytes(at, _HEAD.size, _SKIP_BLOCK_BYTES)
        if len(head) < _HEAD.size:
            return None
        length, _ = _HEAD.unpack(head)
        end = int(at + _HEAD.size + length)
        if length >= _META.size and end <= size:
            return end
        self._block = b""
        return None

    def read(self, at: int) -> Frame | None:
        """The frame at `at`, or None while no whole and undamaged one is there."""
        frame = self._read(at)
        if frame is None:
            self._block = b""
        return frame

    def damaged_until(self, at: int) -> int | None:
        """Position after a frame that will never become whole, because a good one follows it; otherwise None.

        The order matters: once a good frame follows, no writer touches the one before it any more.
        """
        self._block = b""
        end = self.skip(at, self.size())
        if end is None or self.read(end) is None:
            return None
        self._block = b""
        return end if self.read(at) is None else None

    def _read(self, at: int) -> Frame | None:
        head = self._bytes(at, _HEAD.size + _META.size, _BLOCK_BYTES)
        if len(head) < _HEAD.size + _META.size:
            return None
        length, crc = _HEAD.unpack_from(head)
        timestamp_ms, key_size, headers_size = _META.unpack_from(head, _HEAD.size)
        body, end = at + _HEAD.size, at + _HEAD.size + length
        value_at = body + _META.size + max(key_size, 0) + headers_size
        if value_at > end or end > self.size():
            return None
        meta = self._bytes(body, value_at - body, _BLOCK_BYTES)
        value = self._bytes(value_at, end - value_at, _BLOCK_BYTES)
        if len(value) != end - value_at or crc32c(value, crc32c(meta)) != crc:
            return None
        key = None if key_size < 0 else meta[_META.size : _META.size + key_size]
        return Frame(timestamp_ms, key, _decode_headers(meta[_META.size + max(key_size, 0) :]), value, end)

    def _bytes(self, at: int, count: int, block_bytes: int) -> bytes:
        """Up to `count` bytes from `at`: from the block read ahead or the file; large values go past the block."""
        start = at - self._block_at
        if start >= 0 and start + count <= len(self._block):
            return self._block[start : start + count]
        if count >= block_bytes:
            return _pread_all(self._fd, count, at)
        self._block, self._block_at = os.pread(self._fd, block_bytes, at), at
        return self._block[:count]


def _pread_all(fd: int, count: int, at: int) -> bytes:
    """One read may stop short (Linux: at 2 GiB, or at a signal on some file systems)."""
    got = os.pread(fd, count, at)
    while 0 < len(got) < count:
        more = os.pread(fd, count - len(got), at + len(got))
        if not more:
            break
        got += more
    return got
