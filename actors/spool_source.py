"""Decides how a spool topic is read by one process: whose turn it is, how much at once, how long to wait."""

import time
from collections.abc import Mapping, Sequence

from standwatch.actors.spool_reader import PartitionReader
from standwatch.actors.spoolfiles import open_topic, translated
from standwatch.configs.schema import BrokerConfig, TopicsConfig
from standwatch.pipeline.errors import PositionLost
from standwatch.pipeline.types import Record

_POLL_BYTES = 64 * 1024 * 1024  # a poll's records are all in memory at once
_FIRST_SLEEP_S = 0.001
_LONGEST_SLEEP_S = 0.02


class SpoolSource:
    """A `Source` on a directory. The topic is created if nobody has yet; any number of processes may read."""

    def __init__(self, config: BrokerConfig, topic: str, topics: TopicsConfig) -> None:
        self._topic = open_topic(config.spool_dir, topic, topics.partitions)
        self._readers: dict[int, PartitionReader] = {}
        self._order: list[int] = []  # whose turn comes first; rotates

    def partitions(self) -> Sequence[int]:
        return range(self._topic.partitions)

    def assign(self, positions: Mapping[int, int | None]) -> None:
        """As `Source.assign`. Raises `PositionLost` for an offset beyond a partition's end."""
        self._release()
        with translated(self._topic.path):
            for partition, offset in positions.items():
                folder = self._topic.partition_dir(partition)
                self._readers[partition] = PartitionReader(self._topic.name, partition, folder, offset)
        self._order = sorted(positions)

    def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """As `Source.poll`; a partition with much to read leaves the others their share of `max_records`."""
        deadline = time.monotonic() + timeout_ms / 1000
        sleep_s = _FIRST_SLEEP_S
        while True:
            with translated(self._topic.path):
                records = self._take(max_records)
            left_s = deadline - time.monotonic()
            if records or left_s <= 0:
                return records
            time.sleep(min(sleep_s, left_s))
            sleep_s = min(2 * sleep_s, _LONGEST_SLEEP_S)

    def lag(self) -> Mapping[int, int]:
        with translated(self._topic.path):
            return {partition: reader.lag() for partition, reader in self._readers.items()}

    def end_offsets(self) -> Mapping[int, int]:
        """For each assigned partition the offset after its last record: what to assign to read only what comes."""
        with translated(self._topic.path):
            return {partition: reader.end_offset() for partition, reader in self._readers.items()}

    def note_progress(self, positions: Mapping[int, int]) -> None:
        """Nothing: a spool has no dashboards; whoever wants the lag compares `end_offsets` with the memory's commit."""

    def close(self) -> None:
        self._release()

    def _take(self, max_records: int) -> list[Record]:
        """Rounds of equal shares until there are enough records or no more; the next poll begins one further on."""
        records: list[Record] = []
        hungry = list(self._order)
        self._order = self._order[1:] + self._order[:1]
        budget = _POLL_BYTES
        while hungry and len(records) < max_records and budget > 0:
            share = max(1, (max_records - len(records)) // len(hungry))
            bytes_each = max(1, budget // len(hungry))
            still: list[int] = []
            for partition in hungry:
                try:
                    taken = self._readers[partition].take(min(share, max_records - len(records)), bytes_each)
                except (OSError, PositionLost):
                    if not records:
                        raise
                    return records  # the others' are read already; the error comes again with the next poll
                budget -= sum(len(record.value) for record in taken)
                records += taken
                if taken:
                    still.append(partition)
            hungry = still
        return records

    def _release(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._order = []
