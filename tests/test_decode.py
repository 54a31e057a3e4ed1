import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from standwatch.configs.schema import DecodeConfig
from standwatch.pipeline.decode import ChunkDecoder, Decoded, Outcome, Refused
from standwatch.pipeline.ffmpeg import find_ffmpeg
from standwatch.pipeline.mp4 import Track, boxes, find, fragments, tracks
from standwatch.pipeline.splice import plan_streams
from standwatch.pipeline.types import Chunk, SourceOffset
from tests.footage_video import START_MS, TOPIC, chunks, convert, draw, sampled, shown

EVERY_FRAME = DecodeConfig(sample_fps=60.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """Five seconds of H.264 with B-frames and a key frame a second."""
    return draw(folder / "plain.mp4")


@pytest.fixture
def every_frame() -> Iterator[ChunkDecoder]:
    decoder = ChunkDecoder(EVERY_FRAME)
    yield decoder
    decoder.close()


def decode(config: DecodeConfig, run: Sequence[Chunk]) -> list[Outcome]:
    decoder = ChunkDecoder(config)
    try:
        return decoder.decode([run])[0]
    finally:
        decoder.close()


def times(outcomes: Sequence[Outcome]) -> list[int]:
    return [time for outcome in outcomes for time in pictures(outcome).frame_ms.tolist()]


def pictures(outcome: Outcome) -> Decoded:
    assert isinstance(outcome, Decoded), outcome
    return outcome


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused), "was not refused"
    return outcome.reason


def alone(payload: bytes, content_type: str, fps: float | None = None) -> Chunk:
    """A whole file as one record."""
    return Chunk("camera", SourceOffset(TOPIC, 0, 0), START_MS, 5_000, content_type, payload, 0, fps)


def assert_every_frame(decoder: ChunkDecoder, video: Path, run: Sequence[Chunk]) -> None:
    expected = shown(video)
    (outcomes,) = decoder.decode([run])
    assert times(outcomes) == [START_MS + one.at_ms for one in expected]
    found = [pixels for outcome in outcomes for pixels in pictures(outcome).frames]
    for pixels, one in zip(found, expected, strict=True):
        assert pixels.shape == one.pixels.shape
        assert np.abs(pixels.astype(int) - one.pixels).mean() < 1


VIDEOS = {
    "B-frames": ["-c:v", "libx264", "-g", "10", "-bf", "3"],
    "HEVC": ["-c:v", "libx265", "-g", "10", "-x265-params", "log-level=0"],
    "variable rate": ["-vf", "setpts='(N+N*N/30)/10/TB'", "-fps_mode", "vfr", "-c:v", "libx264", "-g", "10"],
    "one key frame": ["-c:v", "libx264", "-g", "1000"],
    "1x1": ["-vf", "crop=1:1:20:20,format=yuv444p", "-c:v", "libx264", "-g", "10"],
}


@pytest.mark.parametrize("name", VIDEOS)
def test_every_frame_comes_with_the_time_and_the_picture_of_an_independent_decode(
    name: str, folder: Path, every_frame: ChunkDecoder
) -> None:
    video = draw(folder / f"{name}.mp4", *VIDEOS[name])
    assert_every_frame(every_frame, video, chunks(video))


def test_a_portrait_video_is_turned_upright(plain: Path, folder: Path, every_frame: ChunkDecoder) -> None:
    chunk = chunks(plain)[0]
    (upright,) = every_frame.decode([[replace(chunk, payload=turned(chunk.payload))]])
    assert pictures(upright[0]).frames[0].shape == (64, 36, 3)


def turned(payload: bytes) -> bytes:
    """The same MP4 with a display matrix of a quarter turn."""
    (box,) = (box for box in boxes(payload) if box.kind == b"moov")
    header = find(payload, box, b"trak", b"tkhd")
    assert header is not None
    one, minus = (1 << 16).to_bytes(4, "big"), (0xFFFF0000).to_bytes(4, "big")
    zero = bytes(4)
    quarter = zero + one + zero + minus + zero + zero + zero + zero + (1 << 30).to_bytes(4, "big")
    at = header.body + 40
    return payload[:at] + quarter + payload[at + 36 :]


def test_sound_beside_the_video_does_not_matter(plain: Path, folder: Path, every_frame: ChunkDecoder) -> None:
    video = convert(folder / "sound.mp4", "-i", str(plain), "-f", "lavfi", "-i", "sine=d=5", *FRAGMENTED)
    assert_every_frame(every_frame, plain, [alone(video.read_bytes(), "video/mp4")])


FRAGMENTED = ["-c:v", "copy", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov+default_base_moof"]


def test_an_ordinary_mp4_with_its_index_in_front_is_decoded(
    plain: Path, folder: Path, every_frame: ChunkDecoder
) -> None:
    video = convert(folder / "front.mp4", "-i", str(plain), "-c", "copy", "-movflags", "+faststart")
    assert_every_frame(every_frame, plain, [alone(video.read_bytes(), "video/mp4")])
    assert "faststart" in reason(every_frame.decode([[alone(plain.read_bytes(), "video/mp4")]])[0][0])


@pytest.mark.parametrize(("codec", "kind"), [("libx264", "h264"), ("libx265", "hevc")])
def test_a_raw_record_is_timed_by_its_frame_rate(
    codec: str, kind: str, folder: Path, every_frame: ChunkDecoder
) -> None:
    quiet = ["-x265-params", "log-level=0"] if kind == "hevc" else []
    raw = draw(folder / f"raw.{kind}", "-c:v", codec, "-f", kind, *quiet)
    content_type = {"h264": "video/h264", "hevc": "video/h265"}[kind]
    (outcomes,) = every_frame.decode([[alone(raw.read_bytes(), content_type, fps=10.0)]])
    assert times(outcomes) == [START_MS + 100 * place for place in range(50)]


def test_a_jpeg_record_is_one_frame_at_its_time(folder: Path, every_frame: ChunkDecoder) -> None:
    picture = draw(folder / "picture.jpg", "-frames:v", "1", "-update", "1").read_bytes()
    run = [replace(alone(picture, "image/jpeg"), start_ms=START_MS + 700 * place) for place in range(3)]
    (outcomes,) = every_frame.decode([run])
    assert times(outcomes) == [START_MS, START_MS + 700, START_MS + 1400]
    (cut_off,) = every_frame.decode([[replace(run[0], payload=picture[: len(picture) // 2])]])
    assert "truncated" in reason(cut_off[0])


def test_large_pictures_are_scaled_and_small_ones_are_not(plain: Path, folder: Path) -> None:
    outcome = pictures(decode(replace(EVERY_FRAME, max_side_px=32), chunks(plain)[:1])[0])
    assert outcome.frames[0].shape == (18, 32, 3)
    flat = draw(folder / "flat.mp4", size="256x2", seconds=1)
    assert pictures(decode(replace(EVERY_FRAME, max_side_px=16), chunks(flat))[0]).frames[0].shape == (1, 16, 3)


@pytest.mark.parametrize("fps", [0.4, 1.0, 3.0, 29.97])
def test_no_frame_that_is_the_first_of_its_slot_is_missing(fps: float, plain: Path) -> None:
    expected = [START_MS + one.at_ms for one in sampled(shown(plain), fps)]
    for batch in (1, 2, 32):
        found = times(decode(DecodeConfig(sample_fps=fps, batch_chunks=batch), chunks(plain)))
        assert set(expected) <= set(found)
        assert len(found) <= len(expected) + len(chunks(plain))  # beyond them at most the first of each run


def test_chunks_that_do_not_follow_each_other_in_time_keep_their_own_times(plain: Path) -> None:
    run = chunks(plain)
    run = [
        replace(chunk, start_ms=chunk.start_ms + shift) for chunk, shift in zip(run, (0, 50_000, 20_000), strict=True)
    ]
    starts = [pictures(outcome).frame_ms[0] for outcome in decode(EVERY_FRAME, run)]
    assert starts == [chunk.start_ms for chunk in run]


def test_chunks_of_one_encoder_share_an_input_and_others_do_not(plain: Path, folder: Path) -> None:
    other = chunks(draw(folder / "other.mp4", size="32x32"))
    streams, refused = plan_streams([*chunks(plain), *other, *chunks(plain)], 30_000, 10**9)
    assert [stream.chunks for stream in streams] == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert refused == {}


def test_decode_times_that_do_not_fit_begin_another_input(plain: Path) -> None:
    streams, _ = plan_streams([narrow(chunk) for chunk in chunks(plain)] * 64, 30_000, 10**9)
    assert [place for stream in streams for place in stream.chunks] == list(range(192))


def narrow(chunk: Chunk) -> Chunk:
    """The chunk with its timescale raised, so that few chunks fit into a 32-bit decode time."""
    moov = next(box for box in boxes(chunk.payload) if box.kind == b"moov")
    header = find(chunk.payload, moov, b"trak", b"mdia", b"mdhd")
    assert header is not None
    at = header.body + 12
    return replace(chunk, payload=chunk.payload[:at] + (10**7).to_bytes(4, "big") + chunk.payload[at + 4 :])


def damaged(chunk: Chunk) -> Chunk:
    """Bytes overwritten in the middle of the coded pictures."""
    data, noise = bytearray(chunk.payload), random.Random(7)
    mdat = next(box for box in boxes(chunk.payload) if box.kind == b"mdat")
    middle = (mdat.body + mdat.end) // 2
    data[middle : middle + 200] = noise.randbytes(200)
    return replace(chunk, payload=bytes(data))


def flipped(chunk: Chunk) -> Chunk:
    """One bit of a picture's header flipped."""
    data = bytearray(chunk.payload)
    mdat = next(box for box in boxes(chunk.payload) if box.kind == b"mdat")
    fragment = fragments(chunk.payload, next(b for b in boxes(chunk.payload) if b.kind == b"moof"), known(chunk))[0]
    data[mdat.body + fragment.sizes[0] + 5] ^= 0x40
    return replace(chunk, payload=bytes(data))


def known(chunk: Chunk) -> tuple[Track, ...]:
    return tracks(chunk.payload, next(box for box in boxes(chunk.payload) if box.kind == b"moov"))


def truncated(chunk: Chunk) -> Chunk:
    return replace(chunk, payload=chunk.payload[: len(chunk.payload) * 2 // 3])


def not_video(chunk: Chunk) -> Chunk:
    return replace(chunk, payload=b"this is not a video at all")


@pytest.mark.parametrize("spoil", [damaged, flipped, truncated, not_video])
def test_only_the_bad_chunk_of_a_run_is_refused(
    spoil: Callable[[Chunk], Chunk], plain: Path, every_frame: ChunkDecoder
) -> None:
    good = chunks(plain)
    (expected,) = every_frame.decode([good])
    (outcomes,) = every_frame.decode([[good[0], spoil(good[1]), good[2]]])
    assert reason(outcomes[1]).startswith("payload: ")
    assert times([outcomes[0], outcomes[2]]) == times([expected[0], expected[2]])


def test_every_bad_chunk_of_a_long_run_is_refused_and_no_other(plain: Path, every_frame: ChunkDecoder) -> None:
    run = [replace(chunk, start_ms=START_MS + 5_000 * place) for place, chunk in enumerate(chunks(plain) * 4)]
    bad = {0, 5, 11}
    (outcomes,) = every_frame.decode([[damaged(one) if place in bad else one for place, one in enumerate(run)]])
    assert {place for place, outcome in enumerate(outcomes) if isinstance(outcome, Refused)} == bad


def test_the_reason_is_the_same_each_time(plain: Path, every_frame: ChunkDecoder) -> None:
    bad = damaged(chunks(plain)[0])
    assert every_frame.decode([[bad]]) == every_frame.decode([[bad]])


def test_sound_alone_is_refused(folder: Path, every_frame: ChunkDecoder) -> None:
    sound = convert(folder / "only.mp4", "-f", "lavfi", "-i", "sine=d=2", *FRAGMENTED)
    (outcomes,) = every_frame.decode([[alone(sound.read_bytes(), "video/mp4")]])
    assert "no video stream" in reason(outcomes[0])


@pytest.mark.parametrize("content_type", ["video/mp4", "video/h264", "video/h265", "image/jpeg"])
def test_a_record_that_is_not_what_it_says_is_refused(content_type: str, every_frame: ChunkDecoder) -> None:
    for payload in (b"\0\0\0\1nonsense", b"\xff\xd8 nonsense \xff\xd9", b"\0\0\0\x08ftyp\0\0\0\x08moov"):
        (outcomes,) = every_frame.decode([[alone(payload, content_type, fps=10.0)]])
        assert reason(outcomes[0]).startswith("payload: ")


def test_a_chunk_that_lasts_too_long_is_refused(plain: Path, folder: Path) -> None:
    config = replace(EVERY_FRAME, max_chunk_ms=1_500)
    assert "span 1900 ms, above max_chunk_ms (1500)" in reason(decode(config, chunks(plain)[:1])[0])
    raw = draw(folder / "long.h264", "-c:v", "libx264", "-f", "h264").read_bytes()
    assert "above max_chunk_ms (1500)" in reason(decode(config, [alone(raw, "video/h264", fps=10.0)])[0])


def test_pictures_above_the_limit_are_refused_before_they_are_decoded(plain: Path, folder: Path) -> None:
    config = replace(EVERY_FRAME, max_source_pixels=64 * 36 - 1)
    assert "max_source_pixels" in reason(decode(config, chunks(plain)[:1])[0])
    raw = draw(folder / "raw2.h264", "-c:v", "libx264", "-f", "h264").read_bytes()
    assert reason(decode(config, [alone(raw, "video/h264", fps=10.0)])[0]).startswith("payload: ")


def test_decoding_that_takes_too_long_is_ended_and_refused(plain: Path) -> None:
    assert "timeout_s" in reason(decode(replace(EVERY_FRAME, timeout_s=0.001), chunks(plain)[:1])[0])


def test_feeds_are_decoded_each_for_itself(plain: Path, every_frame: ChunkDecoder) -> None:
    good = chunks(plain)
    outcomes = every_frame.decode([[not_video(good[0])], good, []])
    assert isinstance(outcomes[0][0], Refused)
    assert len(times(outcomes[1])) == 50
    assert outcomes[2] == []


@pytest.fixture
def mortal_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Puts an ffmpeg on the PATH that is killed from outside the first so many times it is started."""
    real = find_ffmpeg()

    def install(deaths: int) -> None:
        script = tmp_path / "ffmpeg"
        script.write_text(
            f"#!/bin/sh\necho >>{tmp_path}/starts\n[ $(wc -l <{tmp_path}/starts) -gt {deaths} ] || kill -9 $$\n"
            f'exec {real} "$@"\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        find_ffmpeg.cache_clear()

    yield install
    find_ffmpeg.cache_clear()


def test_a_decoder_that_was_killed_is_no_fault_of_the_video(plain: Path, mortal_ffmpeg: Callable[[int], None]) -> None:
    run = chunks(plain)[:1]
    mortal_ffmpeg(2)
    (outcome,) = decode(EVERY_FRAME, run)
    assert len(pictures(outcome).frames)


def test_a_video_over_which_the_decoder_dies_every_time_is_refused(
    plain: Path, mortal_ffmpeg: Callable[[int], None]
) -> None:
    run = chunks(plain)[:1]
    mortal_ffmpeg(99)
    (outcome,) = decode(EVERY_FRAME, run)
    assert "killed from outside 3 times" in reason(outcome)
