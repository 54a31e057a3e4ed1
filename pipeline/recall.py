"""Decides how remembered rows are read: mapped files, only the rows asked for, a bounded number of files open."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from standwatch.pipeline.clock import rfc3339
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.files import Files
from standwatch.pipeline.replay import ClipRows
from standwatch.pipeline.rolling import Place, RollingMemory
from standwatch.pipeline.rows import RecordBatch, RowBatch, RowReader, Schema
from standwatch.pipeline.types import Evidence, Float32Array, Int64Array, Window, WindowTokens

Element = TypeVar("Element", bound=np.generic)
Piece = tuple[Place, RowBatch, int, int]  # rows [low, high) of a record batch


class Recall:
    """Reads windows. Files stay mapped for the next window, the least recently used going first."""

    def __init__(self, files: Files, max_files: int = 64, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._files = files
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._open: OrderedDict[str, tuple[int, RowReader]] = OrderedDict()
        self._bytes = 0

    def window(
        self, memory: RollingMemory, feed_id: str, window: Window, context_from_ms: int | None = None
    ) -> WindowTokens:
        """The rows of a window. Views of the mapped file where one file holds them all, else one copy of these rows.

        The rows from `context_from_ms` on that stand before them come along as far as they are of the same token
        space; none when the window itself holds nothing. Raises `BadInput` when the window is of two token spaces,
        and `FileNotFoundError` when `memory` is out of date.
        """
        span = Window(min(window.from_ms, window.from_ms if context_from_ms is None else context_from_ms), window.to_ms)
        found = self._rows(memory, feed_id, span)
        own = [piece for piece in found if piece[1].frame_ms[piece[3] - 1] >= window.from_ms]
        space = _one_space(feed_id, own)
        first = len(found) - len(own)
        while first and found[first - 1][0].file.token_space == space:
            first -= 1
        found = found[first:] if own else []
        frame_ms = [rows.frame_ms[low:high] for _, rows, low, high in found]
        offsets = [rows.offset[low:high] for _, rows, low, high in found]
        tokens = [rows.tokens[low:high] for _, rows, low, high in found]
        return WindowTokens(
            feed_id=feed_id,
            window=span,
            topic=memory.manifest.topic,
            partition=memory.manifest.partition,
            frame_ms=_one(frame_ms, np.empty(0, np.int64)),
            frame_offset=_one(offsets, np.empty(0, np.int64)),
            tokens=_one(tokens, np.empty((0, 0, 0), np.float16)),
            token_space=space,
        )

    def evidence(
        self, memory: RollingMemory, feed_id: str, window: Window, frame_ms: Int64Array, scores: Float32Array
    ) -> Evidence:
        """Some frames of a window with their thumbnails, in the order of time.

        Raises `BadInput` when a frame is not, or no longer, in memory.
        """
        if frame_ms.shape != scores.shape or frame_ms.ndim != 1 or len(np.unique(frame_ms)) != len(frame_ms):
            raise ValueError("frame_ms and scores: one score for each of some different frames is needed")
        order = np.argsort(frame_ms)
        wanted = frame_ms[order]
        span = Window(int(wanted[0]), int(wanted[-1]) + 1) if len(wanted) else Window(window.from_ms, window.from_ms)
        if span.from_ms < window.from_ms or span.to_ms > window.to_ms:
            raise ValueError(f"frame_ms: frames from {span.from_ms} to {span.to_ms - 1} are not all within {window}")
        found = []
        offsets, tokens, thumbnails = [], [], list[bytes]()
        held = 0
        for piece in self._rows(memory, feed_id, span):
            _, rows, low, high = piece
            times = rows.frame_ms[low:high]
            here = wanted[np.searchsorted(wanted, times[0]) : np.searchsorted(wanted, times[-1], side="right")]
            at = low + np.searchsorted(times, here)
            at = at[rows.frame_ms[at] == here]
            if len(at):
                found.append(piece)
                offsets.append(rows.offset[at])
                tokens.append(rows.tokens[at])
                thumbnails += [rows.thumbnail(int(row)) for row in at]
                held += len(at)
        if held < len(wanted):
            raise BadInput(
                f"frame_ms: {len(wanted) - held} of these {len(wanted)} frames of {feed_id!r} are not in memory"
            )
        return Evidence(
            feed_id=feed_id,
            window=window,
            topic=memory.manifest.topic,
            partition=memory.manifest.partition,
            frame_ms=wanted,
            frame_offset=_one(offsets, np.empty(0, np.int64)),
            tokens=_one(tokens, np.empty((0, 0, 0), np.float16)),
            scores=np.asarray(scores[order], dtype=np.float32),
            thumbnails=tuple(thumbnails),
            token_space=_one_space(feed_id, found),
        )

    def clip_rows(self, memory: RollingMemory, place: Place) -> ClipRows:
        """A feed's rows in one file, without what they hold: views of the mapped file."""
        rows = self._reader(memory, place).batch(place.span.batch)
        return ClipRows(rows.frame_ms, rows.offset, rows.clip_frame)

    def row_batches(self, memory: RollingMemory, feed_id: str, window: Window) -> tuple[Schema, list[RecordBatch]]:
        """The rows of a window as Arrow record batches with their schema. Raises as `window` does."""
        found = self._rows(memory, feed_id, window)
        _one_space(feed_id, found)
        if not found:
            held = memory.feed_stat(feed_id)
            span = f"{rfc3339(held.first_ms)} to {rfc3339(held.last_ms)}" if held.first_ms and held.last_ms else "none"
            raise BadInput(f"window: holds no rows of {feed_id!r}; in memory are {span}")
        batches = [rows.arrow.slice(low, high - low) for _, rows, low, high in found]
        return batches[0].schema, batches

    def keep_only(self, memory: RollingMemory) -> None:
        """Close files of this partition that its memory no longer names: open, they would still take disk space."""
        live = {self._name(memory, file.name) for file in memory.manifest.files}
        prefix = self._name(memory, "")
        for name in [name for name in self._open if name.startswith(prefix) and name not in live]:
            self._bytes -= self._open.pop(name)[0]

    def close(self) -> None:
        """Let go of every map; arrays given out stay valid."""
        self._open.clear()
        self._bytes = 0

    def _rows(self, memory: RollingMemory, feed_id: str, window: Window) -> list[Piece]:
        found = []
        for place in memory.places(feed_id, window):
            rows = self._reader(memory, place).batch(place.span.batch)
            low, high = np.searchsorted(rows.frame_ms, [window.from_ms, window.to_ms])
            if low < high:
                found.append((place, rows, int(low), int(high)))
        return found

    def _reader(self, memory: RollingMemory, place: Place) -> RowReader:
        name = self._name(memory, place.file.name)
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name][1]
        reader = RowReader(self._files, name)
        self._open[name] = place.file.bytes, reader
        self._bytes += place.file.bytes
        while len(self._open) > 1 and (len(self._open) > self._max_files or self._bytes > self._max_bytes):
            self._bytes -= self._open.popitem(last=False)[1][0]
        return reader

    def _name(self, memory: RollingMemory, name: str) -> str:
        return f"{memory.manifest.directory}/{name}"


def _one_space(feed_id: str, found: Sequence[Piece]) -> str:
    spaces = list(dict.fromkeys(place.file.token_space for place, *_ in found))
    if len(spaces) > 1:
        change = next(rows.frame_ms[low] for place, rows, low, _ in found if place.file.token_space == spaces[-1])
        raise BadInput(
            f"window: tokens of {feed_id!r} change their meaning within it, from token space {spaces[0]!r} to "
            f"{spaces[-1]!r}; ask about a span before or after {rfc3339(int(change))}"
        )
    return spaces[0] if spaces else ""


def _one(pieces: Sequence[npt.NDArray[Element]], none: npt.NDArray[Element]) -> npt.NDArray[Element]:
    return np.concatenate(pieces) if len(pieces) > 1 else pieces[0] if pieces else none
