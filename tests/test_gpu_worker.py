"""What the shell around a model adds to it: lives, and memories that come as arguments of their own."""

from dataclasses import replace

import numpy as np
import pytest

from standwatch.actors.gpu_worker import GpuWorker
from standwatch.configs.load import load_config
from standwatch.pipeline.errors import StaleSession
from standwatch.pipeline.types import Clip, SourceOffset, StandingQuery, Window, WindowTokens
from tests.system import TINY_MODEL

CONFIG = load_config("local", None, TINY_MODEL)
FEEDS = ("a", "b")
QUERIES = (StandingQuery("person", "Is a person in the picture?"), StandingQuery("rain", "Does it rain?"))


@pytest.fixture(scope="module")
def worker() -> GpuWorker:
    return GpuWorker(replace(CONFIG.model, frame_tokens=1), CONFIG.reading, 1.0)


def clip(feed: str, first: int) -> Clip:
    numbers = np.arange(first, first + 4, dtype=np.int64)
    pixels = np.random.default_rng(first).integers(0, 256, (4, 36, 64, 3), dtype=np.uint8)
    return Clip(feed, SourceOffset("t", 0, first), 1_000 * numbers, numbers, pixels, ())


def test_clips_of_another_life_are_refused(worker: GpuWorker) -> None:
    """As those are that reach a worker which was started anew since their session began."""
    with pytest.raises(StaleSession):
        worker.compress([clip("a", 0)], "of the worker before")
    first = worker.forget()
    (once,) = worker.compress([clip("a", 0)], first)
    second = worker.forget()
    with pytest.raises(StaleSession):
        worker.compress([clip("a", 4)], first)
    (again,) = worker.compress([clip("a", 0)], second)
    np.testing.assert_array_equal(again.tokens, once.tokens, "it has forgotten that it saw these frames")


def test_each_window_is_read_against_the_memory_at_its_place(worker: GpuWorker) -> None:
    batches = worker.compress([clip(feed, 0) for feed in FEEDS], worker.forget())
    memories = [
        WindowTokens(b.feed_id, Window(0, 4_000), "t", 0, b.frame_ms, b.frame_offset, b.tokens, b.token_space)
        for b in batches
    ]
    windows = [Window(0, 4_000), Window(2_000, 4_000)]
    asked = [(windows[0], QUERIES), (windows[1], QUERIES[1:])]
    said = worker.read(asked, *memories)
    assert [[(one.feed_id, one.query_id, one.window) for one in found] for found in said] == [
        [("a", "person", windows[0]), ("a", "rain", windows[0])],
        [("b", "rain", windows[1])],
    ]
    assert [found[0].frame_ms.tolist() for found in said] == [[0, 1_000, 2_000, 3_000], [2_000, 3_000]]
    with pytest.raises(ValueError, match="zip"):
        worker.read(asked, memories[0])
