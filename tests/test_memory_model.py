"""Random appends, replays, commits, maintenance and restarts, against a list of what should be there."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.types import Window
from standwatch.pipeline.verify import verify
from tests.memory_rows import ALL, Keeper, batch, thumbnail

FEEDS = ("a", "b", "c")


class MemoryModel(RuleBasedStateMachine):
    """Feeds a and b are on partition 0, c is on 1. Each append is one chunk of a feed, or more of them replayed."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.root = Path(self.directory.name)
        self.topic: dict[int, list[tuple[str, list[int]]]] = {0: [], 1: []}  # every chunk ever published
        self.read = {0: 0, 1: 0}  # next offset to send
        self.durable = {0: 0, 1: 0}
        self.clock = dict.fromkeys(FEEDS, 0)
        self.open()

    def open(self) -> None:
        self.keeper = Keeper(self.root, partitions=(0, 1), compact_files=2)
        self.rewound()
        assert self.read == self.durable, "a restart goes on at the last commit"

    def rewound(self) -> None:
        self.read = {p: self.keeper.start.positions.get(p, 0) for p in (0, 1)}

    @rule(feed=st.sampled_from(FEEDS), gaps=st.lists(st.integers(1, 50), min_size=1, max_size=4))
    def publish(self, feed: str, gaps: list[int]) -> None:
        times = []
        for gap in gaps:
            self.clock[feed] += gap
            times.append(self.clock[feed])
        self.topic[int(feed == "c")].append((feed, times))

    @rule(partition=st.sampled_from((0, 1)), chunks=st.integers(1, 3), back=st.integers(0, 2), cut=st.booleans())
    def send(self, partition: int, chunks: int, back: int, cut: bool) -> None:
        """Send the next chunks, some before them again; cut: the last one only in part, with the position before it."""
        first = max(0, self.read[partition] - back)
        end = min(self.read[partition] + chunks, len(self.topic[partition]))
        batches = []
        position = end
        for offset in range(first, end):
            feed, times = self.topic[partition][offset]
            if cut and offset == end - 1 and len(times) > 1 and offset >= self.read[partition]:
                times, position = times[:-1], offset
            batches.append(batch(feed, times, offset, partition=partition))
        self.read[partition] = position
        self.keeper.append(*batches, **{f"p{partition}": position})

    @rule()
    def commit(self) -> None:
        self.keeper.commit()
        self.durable = dict(self.read)

    @rule()
    def rewind(self) -> None:
        self.keeper.rewind()
        self.durable = dict(self.read)
        self.rewound()
        assert self.read == self.durable

    @rule()
    def maintain(self) -> None:
        self.keeper.shard.maintain(0)

    @rule()
    def kill(self) -> None:
        self.open()

    @rule(feed=st.sampled_from(FEEDS), start=st.integers(0, 300), length=st.integers(0, 100))
    def look(self, feed: str, start: int, length: int) -> None:
        reader = MemoryReader(str(self.root))
        if feed not in {f.feed_id for f in reader.feeds()}:
            return
        window = Window(start, start + length)
        held = reader.window(feed, window)
        everything = reader.window(feed, ALL).frame_ms
        assert held.frame_ms.tolist() == [t for t in everything.tolist() if start <= t < start + length]
        if not len(held.frame_ms):
            assert held.tokens.size == 0
        else:
            assert held.tokens[:, 0, 0].tolist() == [t % 1000 for t in held.frame_ms.tolist()]
        seen = reader.evidence(feed, window, held.frame_ms, held.frame_ms.astype("float32"))
        assert seen.thumbnails == tuple(thumbnail(feed, t) for t in held.frame_ms.tolist())

    @invariant()
    def what_is_durable_is_there_once_and_in_order(self) -> None:
        held = {p.feed_id: p.frames for p in self.keeper.shard.progress()}
        for feed in FEEDS:
            chunks = self.topic[int(feed == "c")][: self.durable[int(feed == "c")]]
            expected = [t for name, times in chunks for t in times if name == feed]
            times = self.keeper.times(feed) if feed in held else []
            # Beyond the position there may be the part of a chunk that had come.
            assert times[: len(expected)] == expected
            assert times == sorted(set(times)) and len(times) == held.get(feed, 0)
            assert len(times) <= len(expected) + 3

    def teardown(self) -> None:
        assert [finding for finding in verify(str(self.root)) if finding.is_error] == []
        self.directory.cleanup()


MemoryModel.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestMemoryModel = MemoryModel.TestCase
