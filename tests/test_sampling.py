import numpy as np
import pytest

from standwatch.pipeline.backoff import Backoff
from standwatch.pipeline.feedclock import FeedClock, Pace
from standwatch.pipeline.sampling import ClipAssembler, SampledFrame, SampleGrid, Sampler
from standwatch.pipeline.thumbnails import thumbnail
from standwatch.pipeline.types import Clip, SourceOffset


def frame(frame_ms: int, size: tuple[int, int] = (2, 2), offset: int = 0) -> SampledFrame:
    return SampledFrame(frame_ms, SourceOffset("t", 0, offset), np.zeros((*size, 3), np.uint8))


def assembled(frames: list[SampledFrame], per_clip: int = 3, max_gap_ms: int = 1000) -> list[list[int]]:
    assembler = ClipAssembler("f", per_clip, max_gap_ms)
    clips: list[Clip] = [clip for one in frames for clip in assembler.add(one)]
    return [clip.frame_ms.tolist() for clip in clips + assembler.flush()]


def test_the_first_frame_of_each_slot_is_kept() -> None:
    sampler = Sampler(SampleGrid(1.0))
    kept = [time for time in (5_300, 5_900, 6_000, 6_999, 7_100, 9_500, 9_900) if sampler.keep(time)]
    assert kept == [5_300, 6_000, 7_100, 9_500]


def test_what_is_kept_does_not_depend_on_where_reading_began() -> None:
    times = [1_790_000_000_000 + step * 37 for step in range(400)]
    whole = Sampler(SampleGrid(3.0))
    kept = [time for time in times if whole.keep(time)]
    for place in range(0, len(kept), 7):
        resumed = Sampler(SampleGrid(3.0), kept[place])
        assert [time for time in times if resumed.keep(time)] == kept[place + 1 :]


def test_a_frame_that_is_not_later_is_not_kept() -> None:
    sampler = Sampler(SampleGrid(60.0), 5_000)
    assert [sampler.keep(time) for time in (4_000, 5_000, 5_001, 5_100)] == [False, False, False, True]


@pytest.mark.parametrize("fps", [0.001, 0.3, 1.0, 2.5, 29.97, 60.0])
def test_slots_count_alike_from_any_origin(fps: float) -> None:
    grid = SampleGrid(fps)
    at_ms = 1_790_000_123_456
    origin = grid.origin_ms(at_ms)
    assert 0 <= at_ms - origin < 1_000_000
    steps = [grid.slot(at_ms + step) - grid.slot(at_ms) for step in range(0, 100_000, 333)]
    assert steps == [grid.slot(at_ms - origin + step) - grid.slot(at_ms - origin) for step in range(0, 100_000, 333)]


def test_frames_are_grouped_into_full_clips_and_a_short_one_at_the_end() -> None:
    assert assembled([frame(time) for time in (0, 1, 2, 3)]) == [[0, 1, 2], [3]]


def test_a_frame_of_another_size_begins_a_clip() -> None:
    assert assembled([frame(0), frame(1, (2, 4)), frame(2, (2, 4))]) == [[0], [1, 2]]


def test_a_gap_begins_a_clip_only_when_it_is_longer_than_allowed() -> None:
    assert assembled([frame(0), frame(1000), frame(2001)]) == [[0, 1000], [2001]]


def test_a_clip_names_the_chunk_of_each_frame_and_is_at_its_last() -> None:
    assembler = ClipAssembler("f", 2, 1000)
    assert assembler.add(frame(0, offset=4)) == []
    assert assembler.oldest == SourceOffset("t", 0, 4)
    (clip,) = assembler.add(frame(1, offset=6))
    assert (clip.at.offset, clip.frame_offset.tolist(), clip.frames.shape) == (6, [4, 6], (2, 2, 2, 3))
    assert assembler.oldest is None


def test_a_thumbnail_keeps_the_aspect_and_is_never_larger_than_the_picture() -> None:
    import io

    from PIL import Image

    def size(height: int, width: int) -> tuple[int, int]:
        data = thumbnail(np.full((height, width, 3), 90, np.uint8), 160, 70)
        return Image.open(io.BytesIO(data)).size

    assert size(252, 448) == (160, 90)
    assert size(448, 252) == (90, 160)
    assert size(1, 1) == (1, 1)
    assert size(1, 448) == (160, 1)


def test_a_live_feeds_clock_follows_its_own_times_from_the_first_arrival() -> None:
    clock = FeedClock()
    assert clock.start_ms(90_000, 2_000, 1_002_000) == 1_000_000
    assert clock.start_ms(92_000, 2_000, 1_004_300) == 1_002_000  # 300 ms of jitter do not move it


def test_a_live_feeds_clock_is_anchored_again_after_a_drift_and_never_goes_backwards() -> None:
    clock = FeedClock()
    clock.start_ms(90_000, 2_000, 1_002_000)
    assert clock.start_ms(5_000, 2_000, 1_012_000) == 1_010_000  # the camera's counter began anew
    assert clock.start_ms(7_000, 2_000, 1_009_000) == 1_012_000  # this machine's clock was set back
    assert FeedClock(not_before_ms=2_000_000).start_ms(0, 2_000, 1_000_000) == 2_000_000


def test_chunks_that_lay_there_while_the_caller_was_held_up_keep_the_feeds_times() -> None:
    clock = FeedClock()
    assert clock.start_ms(90_000, 2_000, 1_002_000, 2_000) == 1_000_000
    held_up = [clock.start_ms(pts_ms, 2_000, 1_010_000, 0) for pts_ms in (92_000, 94_000, 96_000)]
    assert held_up == [1_002_000, 1_004_000, 1_006_000]
    assert clock.start_ms(98_000, 2_000, 1_010_100, 100) == 1_008_000
    assert clock.start_ms(100_000, 2_000, 1_020_000, 9_900) == 1_018_000  # waited for: the camera itself was late


def test_a_chunk_of_a_recording_is_due_when_its_last_frame_would_have_been_taken() -> None:
    pace = Pace(first_start_ms=500, wall_ms=10_000)
    assert [pace.due_ms(500, 2_000), pace.due_ms(2_500, 1_000)] == [12_000, 13_000]


def test_waits_double_up_to_a_cap_are_shortened_at_random_and_begin_anew_after_success() -> None:
    steady = Backoff(first_s=1, cap_s=5, random=lambda: 0.0)
    assert [steady.next_s() for _ in range(5)] == [1, 2, 4, 5, 5]
    steady.reset()
    assert steady.next_s() == 1
    assert Backoff(first_s=4, random=lambda: 0.5).next_s() == 3
