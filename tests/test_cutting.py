import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from standwatch.configs.schema import DecodeConfig
from standwatch.pipeline.chunking import BoxSplitter, Cut, copy_problem
from standwatch.pipeline.codec import encode_chunk
from standwatch.pipeline.cutting import cut, is_live
from standwatch.pipeline.decode import ChunkDecoder, Decoded
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.mp4 import Track, boxes
from standwatch.pipeline.types import Chunk
from tests.footage_video import START_MS, chunks, convert, draw, shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    return draw(folder / "plain.mp4")


@pytest.fixture
def decoder() -> Iterator[ChunkDecoder]:
    made = ChunkDecoder(DecodeConfig(sample_fps=60.0))
    yield made
    made.close()


def frame_times(decoder: ChunkDecoder, run: list[Chunk]) -> list[int]:
    outcomes = decoder.decode([run])[0]
    assert all(isinstance(outcome, Decoded) for outcome in outcomes), outcomes
    return [time for one in outcomes if isinstance(one, Decoded) for time in one.frame_ms.tolist()]


def test_a_file_is_cut_at_key_frames_without_a_gap(plain: Path) -> None:
    found = chunks(plain)
    assert [(chunk.start_ms - START_MS, chunk.duration_ms, chunk.seq) for chunk in found] == [
        (0, 2000, 0),
        (2000, 2000, 1),
        (4000, 1000, 2),
    ]
    assert {(chunk.content_type, chunk.fps) for chunk in found} == {("video/mp4", 10.0)}


def test_the_record_of_a_cut_describes_its_video(plain: Path) -> None:
    headers = dict(encode_chunk(chunks(plain)[1], "t").headers)
    assert (headers["width"], headers["height"], headers["codec"]) == (b"64", b"36", b"h264")
    base, ticks = headers["timebase"].split(b"/")
    assert int(headers["pts"]) * int(base) / int(ticks) >= 2.0


def test_a_second_pass_goes_on_where_the_first_ended(plain: Path) -> None:
    first = chunks(plain)
    end_ms = first[-1].start_ms + first[-1].duration_ms
    second = list(cut(str(plain), "camera", end_ms, first[-1].seq + 1))
    assert (second[0].start_ms, second[0].seq) == (START_MS + 5_000, 3)


def test_a_stream_that_can_be_copied_is_not_encoded_again(plain: Path) -> None:
    assert b"".join(coded(chunk.payload) for chunk in chunks(plain)) == coded(plain.read_bytes())


def coded(mp4: bytes) -> bytes:
    """The coded pictures of an MP4 that holds nothing else."""
    return b"".join(mp4[box.body : box.end] for box in boxes(mp4) if box.kind == b"mdat")


OPEN_GROUPS = "open-gop=1:keyint=10:min-keyint=1:bframes=3:b-adapt=0:scenecut=0"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mpeg4.mp4", ["-c:v", "mpeg4", "-g", "10"]),
        ("lossless.mkv", ["-c:v", "ffv1"]),
        ("open.mp4", ["-c:v", "libx264", "-flags", "-cgop", "-g", "10", "-x264-params", OPEN_GROUPS]),
    ],
)
def test_a_stream_that_cannot_be_copied_is_encoded_with_the_same_times(
    name: str, options: list[str], folder: Path, decoder: ChunkDecoder
) -> None:
    video = draw(folder / name, *options)
    run = chunks(video)
    assert len(run) >= 2
    assert frame_times(decoder, run) == [START_MS + one.at_ms for one in shown(video)]


def test_key_frames_too_far_apart_are_put_closer(folder: Path, decoder: ChunkDecoder) -> None:
    video = draw(folder / "far.mp4", "-c:v", "libx264", "-g", "1000")
    assert len(chunks(video)) == 1
    run = chunks(video, max_chunk_ms=3_000)
    assert [chunk.duration_ms for chunk in run] == [3000, 2000]  # copied as far as it goes
    assert frame_times(decoder, run) == [START_MS + one.at_ms for one in shown(video)]


def test_a_cut_that_turns_out_impossible_later_goes_on_encoded_without_loss(
    folder: Path, decoder: ChunkDecoder
) -> None:
    keys = "0,1,2,3,4"
    video = draw(folder / "late.mp4", "-c:v", "libx264", "-g", "1000", "-force_key_frames", keys, seconds=12)
    run = chunks(video, max_chunk_ms=3_000)
    assert [chunk.seq for chunk in run] == list(range(len(run)))
    assert max(chunk.duration_ms for chunk in run) <= 3_000
    assert frame_times(decoder, run) == [START_MS + one.at_ms for one in shown(video)]


def test_chunks_above_the_record_size_are_encoded_smaller(folder: Path) -> None:
    video = draw(folder / "noisy.mp4", "-vf", "noise=alls=100:allf=t", "-c:v", "libx264", "-qp", "1", size="160x90")
    largest = max(len(chunk.payload) for chunk in chunks(video))
    run = chunks(video, max_record_bytes=largest // 2)
    assert max(len(chunk.payload) for chunk in run) <= largest // 2
    assert sum(chunk.duration_ms for chunk in run) == 5_000


def test_one_pixel_is_a_video(folder: Path, decoder: ChunkDecoder) -> None:
    video = draw(folder / "one.mkv", "-vf", "crop=1:1:20:20,format=bgr0", "-c:v", "ffv1")
    (outcome, *_) = decoder.decode([chunks(video)])[0]
    assert isinstance(outcome, Decoded)
    assert np.array(outcome.frames).shape[0] == 20


def test_a_portrait_video_stays_upright_when_it_is_encoded_again(folder: Path, decoder: ChunkDecoder) -> None:
    tall = draw(folder / "tall.mkv", "-c:v", "ffv1", size="36x64")
    (outcome, *_) = decoder.decode([chunks(tall)])[0]
    assert isinstance(outcome, Decoded)
    assert outcome.frames[0].shape == (64, 36, 3)


def refusal(source: str | Path) -> str:
    with pytest.raises(BadInput) as caught:
        list(cut(str(source), "camera", START_MS))
    return str(caught.value)


def test_a_source_that_is_no_video_is_refused_with_what_it_is(folder: Path) -> None:
    sound = convert(folder / "sound.mp4", "-f", "lavfi", "-i", "sine=d=1")
    empty, text = folder / "empty.mp4", folder / "text.mp4"
    empty.write_bytes(b"")
    text.write_text("not a video")
    assert "no video stream" in refusal(sound)
    assert "is empty" in refusal(empty)
    assert "cannot be read as video" in refusal(text)
    assert "there is no file" in refusal(folder / "missing.mp4")
    assert "is not a file" in refusal(folder)
    assert "is none of a file, rtsp://" in refusal("ftp://camera/1")


def test_a_feed_name_with_a_slash_is_refused(plain: Path) -> None:
    with pytest.raises(BadInput, match=r"^feed: "):
        next(cut(str(plain), "gate/1", START_MS))


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_camera_that_does_not_answer_is_unavailable(scheme: str) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody can answer there
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match=r"^source: "):
            next(cut(f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/live.m3u8", "camera"))


def test_network_streams_are_live_and_files_are_not() -> None:
    assert [is_live(s) for s in ("rtsp://a/b", "HTTPS://a/b.m3u8", "a.mp4", "/rtsp/a")] == [True, True, False, False]


GOOD = Cut(b"x" * 100, Track(1, b"vide", 1000, "h264", 64, 36, 0, 0, 0), 0, 2000, 20, True, True)


@pytest.mark.parametrize(
    ("piece", "problem"),
    [
        (GOOD, ""),
        (replace(GOOD, track=replace(GOOD.track, codec="vp9")), "codec vp9"),
        (replace(GOOD, starts_at_key=False), "key frames too far apart"),
        (replace(GOOD, closed=False), "open group of pictures"),
        (replace(GOOD, duration=3001), "3001 ms between key frames"),
        (replace(GOOD, payload=b"x" * 101), "101 bytes between key frames"),
    ],
)
def test_what_speaks_against_copying_is_named(piece: Cut, problem: str) -> None:
    assert copy_problem(piece, max_chunk_ms=3000, max_record_bytes=100) == problem


def test_boxes_come_out_whole_however_the_bytes_arrive() -> None:
    stream = b"".join((len(body) + 8).to_bytes(4, "big") + b"free" + body for body in (b"", b"a", b"bc" * 50))
    for step in (1, 3, 7, 1000):
        splitter = BoxSplitter(1000)
        found = [box for at in range(0, len(stream), step) for box in splitter.feed(stream[at : at + step])]
        assert [len(box) for box in found] == [8, 9, 108]
        assert b"".join(found) == stream
    with pytest.raises(BadInput, match=r"^source: 1001 bytes"):
        BoxSplitter(1000).feed((1001).to_bytes(4, "big") + b"mdat")
