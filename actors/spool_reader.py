"""Decides how one partition of a spool is read: in order, whole records only, on past damage and retention."""

import logging
from pathlib import Path

from standwatch.actors.spool_frames import MAGIC, Frame, SegmentReader
from standwatch.actors.spoolfiles import segment_bases, segment_path
from standwatch.pipeline.errors import PositionLost
from standwatch.pipeline.types import Record, SourceOffset

log = logging.getLogger(__name__)


class PartitionReader:
    """A position in one partition. Its state is a segment, a place in it, and the offset of the frame there."""

    def __init__(self, topic: str, partition: int, folder: Path, offset: int | None) -> None:
        """Start at `offset`, at the oldest retained record for None or for one that is gone. Raises `PositionLost`."""
        self._topic = topic
        self._partition = partition
        self._folder = folder
        self._segment: SegmentReader | None = None
        self._base = 0
        self._at = len(MAGIC)
        self._offset = 0
        self._newest: SegmentReader | None = None  # the newest segment, for `end_offset` alone
        self._newest_base = 0
        self._newest_at = len(MAGIC)
        self._end_offset = 0
        self._seek(offset)

    def take(self, max_records: int, max_bytes: int) -> list[Record]:
        """Records that are there now, in order; stops after the one that reaches `max_bytes`."""
        records: list[Record] = []
        while len(records) < max_records and max_bytes > 0:
            try:
                frame = self._segment.read(self._at) if self._segment is not None else None
            except OSError:
                if not records:
                    raise
                break
            if frame is not None:
                records.append(self._record(frame))
                max_bytes -= len(frame.value)
                self._at, self._offset = frame.end, self._offset + 1
            elif records or not self._move_on():  # what may fail comes first in a take: nothing read is lost to it
                break
        return records

    def end_offset(self) -> int:
        """The offset after the last whole record; steps over what was written since the last call, by length alone."""
        while True:
            bases = segment_bases(self._folder)
            if not bases:
                return 0
            if self._newest is None or self._newest_base != bases[-1] or self._newest.removed():
                try:
                    newest = SegmentReader(str(segment_path(self._folder, bases[-1])))
                except FileNotFoundError:
                    continue  # a writer has rolled and retention has run since the listing
                _close(self._newest)
                self._newest, self._newest_base = newest, bases[-1]
                self._newest_at, self._end_offset = len(MAGIC), bases[-1]
            size = self._newest.size()
            while (end := self._newest.skip(self._newest_at, size)) is not None:
                self._newest_at, self._end_offset = end, self._end_offset + 1
            return self._end_offset

    def lag(self) -> int:
        """How many offsets lie between this position and the end; 0 at the end."""
        return max(0, self.end_offset() - self._offset)

    def close(self) -> None:
        _close(self._segment)
        _close(self._newest)
        self._segment = self._newest = None

    def _record(self, frame: Frame) -> Record:
        at = SourceOffset(self._topic, self._partition, self._offset)
        return Record(at, frame.timestamp_ms, frame.key, frame.value, frame.headers)

    def _seek(self, offset: int | None) -> None:
        """Go to `offset`: the segment by its name, then over the heads of the frames before it."""
        bases = segment_bases(self._folder)
        wanted = offset if offset is not None else (bases or [0])[0]
        if bases and wanted < bases[0]:
            log.warning("%s: offset %d is no longer retained; continuing at %d", self._folder, wanted, bases[0])
            wanted = bases[0]
        while bases:
            base = max(base for base in bases if base <= wanted)
            try:
                self._open(base)
                break
            except FileNotFoundError:  # retention came between; look again
                bases = segment_bases(self._folder)
                wanted = max(wanted, bases[0]) if bases else wanted
        self._skip_to(wanted)

    def _skip_to(self, wanted: int) -> None:
        while self._offset < wanted:
            end = self._segment.skip(self._at, self._segment.size()) if self._segment is not None else None
            if end is not None:
                self._at, self._offset = end, self._offset + 1
            elif not self._jump_damage():
                raise PositionLost(
                    f"topic {self._topic!r} partition {self._partition}: asked for offset {wanted}, but the topic ends "
                    f"at {self._offset}; it was emptied or created anew since that position was stored. Start with an "
                    f"empty memory (another memory.path), or put the topic's files back into {self._folder}"
                )

    def _move_on(self) -> bool:
        """Past the place where no whole frame is: to the next segment, or over damage. False: nothing there yet."""
        if self._segment is None or self._segment.removed():
            if not segment_bases(self._folder):
                return False
            if self._segment is None or not self._open_next():
                before = (self._base, self._offset, self._segment is None)
                self._seek(self._offset)
                return before != (self._base, self._offset, self._segment is None)
            return True
        if self._at < self._segment.size():
            return self._step_over() or self._jump_damage()
        return self._open_next()

    def _open_next(self) -> bool:
        """The next segment's name is the offset we are at; its existence says that this one is complete."""
        if self._segment is not None and self._base == self._offset and not self._segment.removed():
            return False
        try:
            self._open(self._offset)
        except FileNotFoundError:
            return False
        return True

    def _step_over(self) -> bool:
        """Over one frame that stays damaged although a good one follows; a torn tail waits for its writer instead."""
        assert self._segment is not None, "callers looked"
        end = self._segment.damaged_until(self._at)
        if end is None:
            return False
        log.error("%s: the record at offset %d is damaged and was passed over", self._folder, self._offset)
        self._at, self._offset = end, self._offset + 1
        return True

    def _jump_damage(self) -> bool:
        """From a place in a closed segment behind which nothing can be told apart, to the next segment."""
        later = [base for base in segment_bases(self._folder) if base > self._offset]
        if self._segment is None or not later:
            return False
        if self._segment.read(self._at) is not None:  # the writer repaired the tail before it went on
            return True
        path = segment_path(self._folder, self._base)
        log.error("%s: damaged; offsets %d to %d of it are lost", path, self._offset, later[0] - 1)
        self._open(later[0])
        return True

    def _open(self, base: int) -> None:
        segment = SegmentReader(str(segment_path(self._folder, base)))
        _close(self._segment)
        self._segment, self._base, self._at, self._offset = (segment, base, len(MAGIC), base)


def _close(segment: SegmentReader | None) -> None:
    if segment is not None:
        segment.close()
