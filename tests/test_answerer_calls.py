"""How an Answerer puts due windows to its shards: one call each, and a window that cannot be read harms no other."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from standwatch.actors.answerer import Answerer, AnswererSettings
from standwatch.actors.topics import open_source
from standwatch.configs.schema import BrokerConfig, ReadingConfig, TopicsConfig
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.events import parse_answer
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import (
    Answer,
    Evidence,
    Float32Array,
    Int64Array,
    Progress,
    Reading,
    SourceOffset,
    StandingQuery,
    Verdict,
    Window,
    WindowTokens,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(120)]
NOW_MS = 1_790_000_007_000
TOPICS = TopicsConfig(partitions=1)
QUERIES = [StandingQuery(f"q{i}", f"Question {i}?", every_ms=3_000, window_ms=3_000) for i in (1, 2)]
WINDOW = Window(NOW_MS - 3_000, NOW_MS)


class Keeper:
    """Holds a frame a second of some feeds; those called `odd...` are of a space that nobody reads."""

    def __init__(self, feeds: Sequence[str]) -> None:
        self._feeds = feeds
        self.asked: list[tuple[str, Window, int]] = []

    def progress(self) -> list[Progress]:
        at = SourceOffset(TOPICS.chunks, 0, 1)
        return [Progress(feed, NOW_MS, at, 2, 1) for feed in self._feeds]

    def window(self, feed_id: str, window: Window, context_from_ms: int) -> WindowTokens:
        self.asked.append((feed_id, window, context_from_ms))
        times = np.arange(context_from_ms, window.to_ms, 1000, dtype=np.int64)
        space = "other" if feed_id.startswith("odd") else "ours"
        tokens = np.ones((len(times), 1, 2), np.float16)
        return WindowTokens(feed_id, window, TOPICS.chunks, 0, times, times, tokens, space)

    def evidence(self, feed_id: str, window: Window, frame_ms: Int64Array, scores: Float32Array) -> Evidence:
        kept = len(frame_ms)
        tokens = np.ones((kept, 1, 2), np.float16)
        return Evidence(feed_id, window, TOPICS.chunks, 0, frame_ms, frame_ms, tokens, scores, (b"",) * kept, "ours")

    def said(self) -> list[tuple[str, Window, int]]:
        return self.asked


class Worker:
    """Says yes to everything in the space it reads; remembers the feeds and the number of queries of each call."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, int]]] = []

    def model(self) -> tuple[str, str]:
        return "fake", "untrained"

    def read(
        self, asked: Sequence[tuple[Window, tuple[StandingQuery, ...]]], *memories: WindowTokens
    ) -> list[list[Reading]]:
        self.calls.append([(m.feed_id, len(queries)) for m, (_, queries) in zip(memories, asked, strict=True)])
        if any(memory.token_space != "ours" for memory in memories):
            raise BadInput("token_space: not ours")
        return [
            [_reading(query, memory, window) for query in queries]
            for memory, (window, queries) in zip(memories, asked, strict=True)
        ]

    def answer(self, question: str, evidence: Evidence) -> Any:
        from standwatch.pipeline.ports import Completion

        return Completion("words", 1, 1)

    def said(self) -> list[list[tuple[str, int]]]:
        return self.calls


def _reading(query: StandingQuery, memory: WindowTokens, window: Window) -> Reading:
    own = memory.frame_ms[memory.frame_ms >= window.from_ms]
    light = np.ones(len(own), np.float32)
    return Reading(query.query_id, memory.feed_id, window, own, light, Verdict.YES, 0.9, 0.0)


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class World:
    def __init__(self, root: Path, method: str, *shards: Sequence[str]) -> None:
        actor: Any = ray.remote
        self.keepers = [actor(Keeper).options(num_cpus=0).remote(feeds) for feeds in shards]
        self.workers = [actor(Worker).options(num_cpus=0).remote() for _ in shards]
        self._broker = BrokerConfig(kind="spool", spool_dir=str(root / "spool"))
        store = QueryStore(root / "memory" / "queries")
        for query in QUERIES:
            store.add(query)
        reading = ReadingConfig(method=method)
        settings = AnswererSettings(self._broker, TOPICS, reading, str(root / "memory"), SegmentGrid(1.0, 8), 60.0)
        self.answerer = Answerer(settings)
        self.answerer.run(self.keepers, self.workers, until_idle=True)

    def calls(self) -> list[list[list[tuple[str, int]]]]:
        found: list[list[list[tuple[str, int]]]] = ray.get([worker.said.remote() for worker in self.workers])
        return found

    def answers(self) -> list[Answer]:
        source = open_source(self._broker, TOPICS, TOPICS.answers)
        source.assign({0: None})
        found = source.poll(100, 1_000)
        source.close()
        return [parse_answer(record) for record in found]


def test_all_that_is_due_on_a_shard_is_one_call_with_one_request_for_each_window(tmp_path: Path) -> None:
    world = World(tmp_path, "segments", ["a", "b"], ["c"])
    assert world.calls() == [[[("a", 2), ("b", 2)]], [[("c", 2)]]]
    answers = world.answers()
    assert sorted((one.feed_id, one.query_id) for one in answers) == [
        (feed, query.query_id) for feed in "abc" for query in QUERIES
    ]
    for answer in answers:
        assert (answer.verdict, answer.window) == (Verdict.YES, WINDOW)
        assert all(WINDOW.from_ms <= frame.frame_ms < WINDOW.to_ms for frame in answer.evidence)
    assert world.answerer.status().problems == ()


def test_a_window_that_cannot_be_read_is_unknown_and_those_asked_for_with_it_are_read(tmp_path: Path) -> None:
    world = World(tmp_path, "segments", ["a", "odd", "z"], ["odd alone"])
    assert world.calls() == [
        [[("a", 2), ("odd", 2), ("z", 2)], [("a", 2)], [("odd", 2)], [("z", 2)]],
        [[("odd alone", 2)]],
    ]
    verdicts = {(one.feed_id, one.query_id): one.verdict for one in world.answers()}
    for query in QUERIES:
        assert verdicts["a", query.query_id] is verdicts["z", query.query_id] is Verdict.YES
        assert verdicts["odd", query.query_id] is verdicts["odd alone", query.query_id] is Verdict.UNKNOWN
    assert world.answerer.status().problems == ("token_space: not ours",)


@pytest.mark.parametrize(("method", "context_from_ms"), [("segments", NOW_MS - 7_000), ("passes", WINDOW.from_ms)])
def test_the_memory_of_a_window_begins_where_its_first_segment_does(
    tmp_path: Path, method: str, context_from_ms: int
) -> None:
    """Segments of 8 s in halves of 4 s: ...04 to ...07 lies in the second half of the one from ...00 on."""
    world = World(tmp_path, method, ["a"])
    (asked,) = ray.get(world.keepers[0].said.remote())
    assert asked == ("a", WINDOW, context_from_ms)
