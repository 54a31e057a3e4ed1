"""Which feeds' open segments are held on to, and which are let go."""

import numpy as np
import torch

from standwatch.compression.openfeeds import OpenFeeds
from standwatch.compression.schedule import build_schedule
from standwatch.compression.segments import OpenSegments, Segment
from standwatch.compression.videocache import VideoCache
from standwatch.configs.schema import LanguageConfig

SHAPE = LanguageConfig(layers=2, width=4, mlp_width=4, heads=1, kv_heads=1, head_dim=4, vocab=8)


def at_slot(slot: int, first: int = 0) -> OpenSegments:
    cache = VideoCache.empty(SHAPE, build_schedule(2, 1, "suffix"), torch.zeros(1, 4), 4)
    return OpenSegments(tuple(Segment(first + i, np.array([slot]), cache) for i in range(2)))


def test_a_feed_that_is_behind_in_frames_and_silent_by_the_clock_is_let_go() -> None:
    feeds = OpenFeeds(segment_frames=64, segment_s=32.0)
    feeds.put({"gone": at_slot(100), "live": at_slot(100)}, now_s=0.0)
    feeds.put({"live": at_slot(165)}, now_s=33.0)
    assert len(feeds) == 1
    assert feeds.get("gone").segments == ()
    assert feeds.get("live").last_slot == 165


def test_a_feed_of_another_day_is_held_while_it_comes() -> None:
    feeds = OpenFeeds(segment_frames=64, segment_s=32.0)
    for turn in range(5):
        feeds.put({"last-year": at_slot(100 + turn), "live": at_slot(9_000_000 + turn)}, now_s=30.0 * turn)
    assert feeds.get("last-year").last_slot == 104


def test_a_feed_that_is_silent_is_held_while_its_segments_may_grow() -> None:
    feeds = OpenFeeds(segment_frames=64, segment_s=32.0)
    feeds.put({"slow": at_slot(100), "live": at_slot(100)}, now_s=0.0)
    feeds.put({"live": at_slot(164)}, now_s=1000.0)
    assert feeds.get("slow").last_slot == 100


def test_nothing_is_held_after_clear() -> None:
    feeds = OpenFeeds(segment_frames=64, segment_s=32.0)
    feeds.put({"live": at_slot(1)}, now_s=0.0)
    feeds.clear()
    assert len(feeds) == 0
    assert feeds.get("live") == OpenSegments()
