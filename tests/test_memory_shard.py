"""What a shard takes, when it becomes durable, and what it gives back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from standwatch.pipeline.errors import BadInput, StaleSession
from standwatch.pipeline.rolling import PartitionStat
from standwatch.pipeline.types import FeedMark, Progress, SourceOffset, TokenBatch, Window
from standwatch.pipeline.verify import verify
from tests.memory_rows import ALL, TOPIC, Keeper, batch, places, thumbnail


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path / "memory", partitions=(0, 1))


def test_an_empty_memory_starts_from_the_beginning(keeper: Keeper) -> None:
    assert keeper.start.positions == {}
    assert keeper.start.feeds == {}
    assert keeper.shard.progress() == []


def test_rows_are_seen_when_they_are_durable_and_not_before(keeper: Keeper) -> None:
    assert keeper.append(batch("cam", [10, 20], 4), p0=5) == []
    with pytest.raises(BadInput, match="'cam' is not in memory"):
        keeper.times("cam")
    assert keeper.commit() == [Progress("cam", 20, SourceOffset(TOPIC, 0, 4), 5, 2)]
    assert keeper.times("cam") == [10, 20]
    assert keeper.commit() == [], "nothing is new"


def test_rewinding_commits_what_is_buffered_and_says_where_to_go_on(keeper: Keeper) -> None:
    keeper.append(batch("cam", [10], 4), batch("dock", [11], 9, partition=1), p0=5)
    keeper.rewind()
    assert keeper.start.positions == {0: 5}
    assert keeper.start.feeds == {
        "cam": FeedMark(10, SourceOffset(TOPIC, 0, 4)),
        "dock": FeedMark(11, SourceOffset(TOPIC, 1, 9)),
    }


def test_what_is_not_committed_is_gone_with_the_keeper_together_with_its_position(tmp_path: Path) -> None:
    first = Keeper(tmp_path)
    first.commit(batch("cam", [10], 0), p0=1)
    first.append(batch("cam", [20], 1), p0=2)
    second = Keeper(tmp_path)
    assert second.start.positions == {0: 1}
    assert second.times("cam") == [10]


def test_a_position_without_rows_is_durable_and_writes_no_rows(keeper: Keeper) -> None:
    keeper.commit(p1=7)
    keeper.rewind()
    assert keeper.start.positions == {1: 7}
    assert keeper.shard.stat().partitions[1] == PartitionStat(TOPIC, 1, 0, 0, 7, 1)


def test_an_append_after_a_hole_or_of_an_older_session_is_refused(keeper: Keeper) -> None:
    session = keeper.start.session
    keeper.append(batch("cam", [10]), p0=1)
    for wrong in (0, 2):
        with pytest.raises(StaleSession, match="append 1 of session"):
            keeper.shard.append(session, wrong, [batch("cam", [20])], {0: 2})
    keeper.rewind()
    with pytest.raises(StaleSession):
        keeper.shard.append(session, 1, [batch("cam", [20])], {0: 2})
    keeper.commit(batch("cam", [30]), p0=3)
    assert keeper.times("cam") == [10, 30]


def test_after_a_refused_batch_the_next_append_is_a_hole(keeper: Keeper) -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        keeper.append(batch("good", [1]), batch("cam", [20, 10]), p0=1)
    with pytest.raises(StaleSession):
        keeper.append(batch("cam", [30]), p0=2)
    keeper.rewind()
    assert keeper.start.positions == {} and keeper.start.feeds == {}, "nothing of the refused append was taken"


def test_replays_are_dropped_whether_durable_or_only_buffered(keeper: Keeper) -> None:
    again = batch("cam", [10, 20], 3)
    keeper.append(again, p0=4)
    keeper.append(again, p0=4)
    keeper.commit()
    keeper.rewind()
    keeper.commit(again, p0=4)
    assert keeper.times("cam") == [10, 20]
    assert keeper.shard.progress()[0].frames == 2


def test_of_a_batch_partly_replayed_only_the_new_frames_are_taken_with_their_own_rows(keeper: Keeper) -> None:
    keeper.commit(batch("cam", [10, 20], [3, 3]), p0=3)
    keeper.commit(batch("cam", [10, 20, 30, 40], [3, 3, 3, 4]), p0=5)
    held = keeper.shard.window("cam", ALL)
    assert held.frame_ms.tolist() == [10, 20, 30, 40]
    assert held.frame_offset.tolist() == [3, 3, 3, 4]
    assert held.tokens[:, 0, 0].tolist() == [10, 20, 30, 40]
    assert places(keeper.root, "cam") == [0, 1, 2, 3], "of the clip as it was sent, not of what was left of it"
    seen = keeper.shard.evidence("cam", ALL, held.frame_ms, np.zeros(4, np.float32))
    assert seen.thumbnails == tuple(thumbnail("cam", t) for t in (10, 20, 30, 40))


def test_each_row_tells_its_place_in_its_clip_also_after_files_were_merged(keeper: Keeper) -> None:
    clips = [[10], [20, 30, 40], list(range(100, 356)), [400, 410]]
    for offset, times in enumerate(clips):
        keeper.commit(batch("cam", times, offset), p0=offset + 1)
    expected = [place for times in clips for place in range(len(times))]
    assert places(keeper.root, "cam") == expected
    assert keeper.maintain() > 0
    assert places(keeper.root, "cam") == expected
    assert verify(str(keeper.root)) == []


def test_a_replay_within_one_append_is_dropped_too(keeper: Keeper) -> None:
    keeper.commit(batch("cam", [10, 20]), batch("cam", [20, 30]), p0=1)
    assert keeper.times("cam") == [10, 20, 30]


BAD: dict[str, tuple[TokenBatch, str]] = {
    "frame twice": (batch("cam", [10, 10]), "strictly increasing"),
    "offsets backwards": (batch("cam", [10, 20], [5, 4]), "order of offset"),
    "one thumbnail short": (replace(batch("cam", [10, 20]), thumbnails=(b"x",)), "do not fit together"),
    "one token row short": (replace(batch("cam", [10, 20]), tokens=np.zeros((1, 2, 3), np.float16)), "do not fit"),
    "float32": (replace(batch("cam", [10]), tokens=np.zeros((1, 2, 3), np.float32)), "float32"),
    "flat": (replace(batch("cam", [10]), tokens=np.zeros((1, 6), np.float16)), "do not fit"),
    "empty": (batch("cam", []), "do not fit"),
    "a clip of 257 frames": (batch("cam", range(257)), "at most 256 frames"),
    "a part that begins before its clip": (batch("cam", [10], clip_frame=-1), "clip_frame -1"),
    "another topic": (replace(batch("cam", [10]), at=SourceOffset("other", 0, 0)), "topic 'other'"),
    "another partition": (batch("cam", [10], partition=9), r"partitions \[9\] are not kept here"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_batch_no_correct_sender_sends_is_a_bug(keeper: Keeper, what: str) -> None:
    bad, message = BAD[what]
    with pytest.raises(ValueError, match=message):
        keeper.append(bad, p0=6)


def test_a_position_or_an_offset_before_what_is_held_is_a_bug(keeper: Keeper) -> None:
    keeper.commit(batch("cam", [10], 8), p0=9)
    with pytest.raises(ValueError, match="position 8 is before 9"):
        keeper.append(p0=8)
    keeper.rewind()
    with pytest.raises(ValueError, match="was the topic made anew"):
        keeper.append(batch("cam", [20], 7), p0=9)


def test_tokens_of_another_shape_in_the_same_space_are_a_bug(keeper: Keeper) -> None:
    keeper.commit(batch("cam", [10]), p0=1)
    with pytest.raises(ValueError, match="tokens are 2 x 5 of 'space-1', but those in memory are 2 x 3"):
        keeper.append(batch("cam", [20], width=5), p0=2)


def test_it_commits_by_itself_when_commit_ms_have_passed(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, commit_ms=1000)
    keeper.clock_ms += 999
    assert keeper.append(batch("cam", [10]), p0=1) == []
    keeper.clock_ms += 1
    assert [p.frames for p in keeper.append(batch("cam", [20]), p0=2)] == [2]
    keeper.clock_ms -= 500_000
    assert [p.frames for p in keeper.append(batch("cam", [30]), p0=3)] == [3], "a clock set back does not hold it up"


def test_it_commits_by_itself_when_much_is_buffered(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, file_bytes=65_536)
    assert keeper.append(batch("cam", [1], width=4000), p0=1) == []
    assert [p.frames for p in keeper.append(batch("cam", [2], width=4000), p0=2)] == [2]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(10, 11), [10]),
        (Window(11, 20), []),
        (Window(11, 21), [20]),
        (Window(10, 40), [10, 20, 30]),
        (Window(0, 10), []),
        (Window(20, 41), [20, 30, 40]),
        (Window(41, 90), []),
        (Window(30, 30), []),
        (Window(35, 15), []),
    ],
)
def test_a_window_holds_its_first_millisecond_and_not_its_last(
    keeper: Keeper, window: Window, expected: list[int]
) -> None:
    keeper.commit(batch("cam", [10, 20], 0), p0=1)
    keeper.commit(batch("cam", [30, 40], 1), p0=2)
    held = keeper.shard.window("cam", window)
    assert held.frame_ms.tolist() == expected
    assert len(held.tokens) == len(held.frame_offset) == len(expected)
    assert held.token_space == ("space-1" if expected else "")
    assert (held.topic, held.partition, held.window) == (TOPIC, 0, window)


def test_a_window_within_one_file_is_a_view_and_stays_valid(keeper: Keeper) -> None:
    keeper.commit(batch("cam", range(0, 1000, 10), 0), p0=1)
    held = keeper.shard.window("cam", Window(100, 150))
    assert not held.tokens.flags.owndata and not held.tokens.flags.writeable
    keeper.shard.close()
    assert held.tokens[:, 0, 0].tolist() == [100, 110, 120, 130, 140]


def test_two_feeds_with_the_same_times_do_not_mix(keeper: Keeper) -> None:
    keeper.commit(batch("a", [10, 20]), batch("b", [10, 15]), batch("c", [1], 0, partition=1), p0=1, p1=1)
    keeper.commit(batch("b", [20], 1), batch("a", [30], 1), p0=2)
    assert (keeper.times("a"), keeper.times("b"), keeper.times("c")) == ([10, 20, 30], [10, 15, 20], [1])


def test_windows_never_mix_token_spaces(keeper: Keeper) -> None:
    keeper.append(batch("cam", [10, 20], 0), p0=1)
    keeper.commit(batch("cam", [30], 1, token_space="space-2", width=7), p0=2)
    with pytest.raises(BadInput, match=r"'space-1' to 'space-2'; ask about a span before or after 1970.*00\.030Z"):
        keeper.times("cam")
    assert keeper.times("cam", Window(0, 30)) == [10, 20]
    assert keeper.shard.window("cam", Window(21, 90)).tokens.shape == (1, 2, 7)
    assert verify(str(keeper.root)) == []


def test_tokens_of_two_representations_are_never_read_together(keeper: Keeper) -> None:
    """16 tokens a frame from the projector and 1 from the compressor are the same record and another space."""
    sixteen, one = np.ones((2, 16, 3), np.float16), np.ones((2, 1, 3), np.float16)
    keeper.commit(replace(batch("cam", [10, 20], token_space="space-16"), tokens=sixteen), p0=1)
    keeper.commit(replace(batch("cam", [30, 40], 1, token_space="space-1"), tokens=one), p0=2)
    with pytest.raises(BadInput, match="'space-16' to 'space-1'"):
        keeper.shard.window("cam", ALL)
    assert keeper.shard.window("cam", Window(0, 30)).tokens.shape == (2, 16, 3)
    assert keeper.shard.window("cam", Window(30, 90)).tokens.shape == (2, 1, 3)


@pytest.mark.parametrize(
    ("window", "context_from_ms", "expected"),
    [
        (Window(30, 45), 10, [10, 20, 30, 40]),
        (Window(30, 45), 15, [20, 30, 40]),
        (Window(30, 45), 21, [30, 40]),
        (Window(30, 45), 30, [30, 40]),
        (Window(30, 45), 44, [30, 40]),
        (Window(30, 45), -5, [10, 20, 30, 40]),
        (Window(41, 60), 0, []),
        (Window(35, 15), 0, []),
    ],
)
def test_a_window_comes_with_the_rows_before_it_that_are_asked_for(
    keeper: Keeper, window: Window, context_from_ms: int, expected: list[int]
) -> None:
    keeper.commit(batch("cam", [10, 20], 0), p0=1)
    keeper.commit(batch("cam", [30, 40], 1), p0=2)
    held = keeper.shard.window("cam", window, context_from_ms)
    assert held.frame_ms.tolist() == expected
    assert held.tokens.ravel()[::6].tolist() == expected
    assert held.window == Window(min(window.from_ms, context_from_ms), window.to_ms)


def test_rows_of_another_space_before_a_window_are_left_out_and_no_reason_to_refuse_it(keeper: Keeper) -> None:
    keeper.append(batch("cam", [10], 0, token_space="space-2", width=7), p0=1)
    keeper.append(batch("cam", [20, 30], 1), p0=2)
    keeper.commit(batch("cam", [40, 50], 2, token_space="space-2", width=7), p0=3)
    held = keeper.shard.window("cam", Window(50, 60), 0)
    assert (held.frame_ms.tolist(), held.token_space) == ([40, 50], "space-2")
    assert held.tokens.shape == (2, 2, 7)
    with pytest.raises(BadInput, match="'space-1' to 'space-2'"):
        keeper.shard.window("cam", Window(30, 60), 0)


def test_evidence_comes_in_the_order_of_time_with_its_own_scores_and_pictures(keeper: Keeper) -> None:
    keeper.commit(batch("cam", [10, 20, 30], 0), p0=1)
    keeper.commit(batch("cam", [40, 50], 1, thumbnails=False), p0=2)
    wanted, scores = np.array([40, 10, 30]), np.array([4.0, 1.0, 3.0], np.float32)
    found = keeper.shard.evidence("cam", Window(0, 100), wanted, scores)
    assert found.frame_ms.tolist() == [10, 30, 40]
    assert found.scores.tolist() == [1, 3, 4]
    assert found.frame_offset.tolist() == [0, 0, 1]
    assert found.tokens[:, 0, 0].tolist() == [10, 30, 40]
    assert found.thumbnails == (thumbnail("cam", 10), thumbnail("cam", 30), b"")
    assert found.window == Window(0, 100) and found.token_space == "space-1"


def test_evidence_of_nothing_is_empty(keeper: Keeper) -> None:
    keeper.commit(batch("cam", [10]), p0=1)
    found = keeper.shard.evidence("cam", ALL, np.empty(0, np.int64), np.empty(0, np.float32))
    assert len(found.tokens) == 0 and found.thumbnails == ()


def test_evidence_that_is_not_in_memory_is_refused(keeper: Keeper) -> None:
    keeper.commit(batch("cam", [10, 30]), p0=1)
    for frames in ([10, 20], [30, 31], [9]):
        with pytest.raises(BadInput, match="are not in memory"):
            keeper.shard.evidence("cam", ALL, np.array(frames), np.zeros(len(frames), np.float32))
    for frames, scores in (([10, 10], 2), ([10], 2), ([10, 30], 2)):
        with pytest.raises(ValueError, match="frame_ms"):
            keeper.shard.evidence("cam", Window(0, 30), np.array(frames), np.zeros(scores, np.float32))


def test_stat_says_what_is_held_of_each_feed(keeper: Keeper) -> None:
    keeper.commit(batch("a", [10, 20]), batch("b", [15]), p0=3)
    keeper.append(batch("a", [30], 2), p0=4)
    stat = keeper.shard.stat()
    assert [(f.feed_id, f.partition, f.frames, f.first_ms, f.last_ms, f.token_space) for f in stat.feeds] == [
        ("a", 0, 2, 10, 20, "space-1"),
        ("b", 0, 1, 15, 15, "space-1"),
    ]
    assert stat.partitions[0].bytes == sum(feed.bytes for feed in stat.feeds) > 0
    assert [(p.partition, p.files, p.next_offset, p.epoch) for p in stat.partitions] == [(0, 1, 3, 1), (1, 0, None, 1)]
