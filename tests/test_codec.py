import pytest

from standwatch.pipeline.codec import CHUNK_TYPE, dead_letter, encode_chunk, read_chunk
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.naming import check_feed_id
from standwatch.pipeline.types import Chunk, DeadLetter, Outgoing, Record, SourceOffset

AT = SourceOffset("video.chunks.v1", 3, 17)
CHUNK = Chunk("gate-1", AT, 1_790_000_000_250, 2000, "video/h264", b"\0\0\0\1video", 5, 25.0)


def as_record(out: Outgoing, key: bytes | None = None, **changed: bytes | None) -> Record:
    """The record as read; `changed` replaces headers (None removes one), '_' in a name standing for '-'."""
    headers = dict(out.headers)
    for name, value in changed.items():
        known = name if name in headers or name.startswith(("ce_", "duration_")) else name.replace("_", "-")
        headers.pop(known, None)
        if value is not None:
            headers[known] = value
    return Record(AT, out.timestamp_ms, out.key if key is None else key, out.value, tuple(headers.items()))


def test_a_chunk_survives_the_way_through_a_record() -> None:
    assert read_chunk(as_record(encode_chunk(CHUNK, "video.chunks.v1"))) == CHUNK


def test_a_record_is_a_cloud_event_in_binary_mode_keyed_by_its_feed() -> None:
    out = encode_chunk(CHUNK, "video.chunks.v1", 7, traceparent="00-ab-cd-01")
    headers = dict(out.headers)
    assert (out.key, out.value, out.timestamp_ms) == (b"gate-1", CHUNK.payload, 7)
    assert headers["ce_type"] == CHUNK_TYPE.encode()
    assert headers["ce_time"] == b"2026-09-21T14:13:20.250Z"
    assert headers["ce_source"] == b"/feeds/gate-1"
    assert headers["traceparent"] == b"00-ab-cd-01"
    assert headers["ce_id"] == dict(encode_chunk(CHUNK, "elsewhere").headers)["ce_id"]


@pytest.mark.parametrize(
    "name", ["content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "duration_ms", "seq", "fps"]
)
def test_a_record_without_a_required_header_is_refused_by_its_name(name: str) -> None:
    out = encode_chunk(CHUNK, "t")
    without = tuple(pair for pair in out.headers if pair[0] != name)
    with pytest.raises(BadInput, match=f"^{name}: header is missing"):
        read_chunk(Record(AT, 0, out.key, out.value, without))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", b"text/plain"),
        ("ce_specversion", b"0.3"),
        ("ce_source", b"/cameras/gate-1"),
        ("ce_source", b"/feeds/gate/1"),
        ("ce_type", b"org.example.alert.v1"),
        ("ce_time", b"yesterday"),
        ("ce_time", b"1960-01-01T00:00:00Z"),
        ("ce_time", b"2026-02-30T00:00:00Z"),
        ("duration_ms", b"0"),
        ("duration_ms", b"60001"),
        ("duration_ms", b"2.5"),
        ("seq", b"-1"),
        ("seq", b"\xff"),
        ("pts", b"soon"),
        ("timebase", b"1/0"),
        ("keyframe", b"false"),
        ("width", b"0"),
        ("height", b"-4"),
        ("fps", b"0/0"),
        ("fps", b"nan"),
        ("fps", b"1e400"),
        ("fps", b"1e999999999"),
        ("ce_time", b"9999-12-31T23:59:59Z"),
        ("ce_time", b"x" * 5_000_000),
        ("codec", b""),
        ("ce_partitionkey", b"gate-2"),
    ],
)
def test_a_wrong_header_is_refused_by_its_name(name: str, value: bytes) -> None:
    out = encode_chunk(CHUNK, "t")
    headers = (*(pair for pair in out.headers if pair[0] != name), (name, value))
    with pytest.raises(BadInput, match=f"^{name}: "):
        read_chunk(Record(AT, 0, out.key, out.value, headers))


@pytest.mark.parametrize("key", [b"gate-2", b"", None])
def test_a_key_that_is_not_the_feed_is_refused(key: bytes | None) -> None:
    out = encode_chunk(CHUNK, "t")
    with pytest.raises(BadInput, match=r"^key: "):
        read_chunk(Record(AT, 0, key, out.value, out.headers))


def test_an_empty_payload_is_refused() -> None:
    out = encode_chunk(CHUNK, "t")
    with pytest.raises(BadInput, match=r"^payload: .*empty"):
        read_chunk(Record(AT, 0, out.key, b"", out.headers))


def test_a_header_given_twice_is_refused() -> None:
    out = encode_chunk(CHUNK, "t")
    with pytest.raises(BadInput, match=r"^seq: .*twice"):
        read_chunk(Record(AT, 0, out.key, out.value, (*out.headers, ("seq", b"6"))))


def test_what_another_producer_may_do_differently_is_accepted() -> None:
    read = read_chunk(
        as_record(
            encode_chunk(CHUNK, "t"),
            content_type=b"Video/H264; codecs=avc1",
            ce_type=b"com.example.camera.chunk.v1",
            ce_time=b"2026-09-21T16:13:20.25+02:00",
            ce_partitionkey=None,
            keyframe=None,
            fps=b"30000/1001",
            x_binary=b"\xff\xfe",
        )
    )
    assert (read.content_type, read.start_ms) == ("video/h264", CHUNK.start_ms)
    assert read.fps == pytest.approx(29.97, abs=0.001)


def test_a_jpeg_needs_no_duration() -> None:
    picture = Chunk("gate-1", AT, 5, 0, "image/jpeg", b"\xff\xd8\xff\xd9", 0)
    assert read_chunk(as_record(encode_chunk(picture, "t"), duration_ms=None)) == picture


@pytest.mark.parametrize("name", ["", "a/b", "x" * 300, "x" * 129, ".hidden", "späti", "a b"])
def test_a_name_that_cannot_be_a_feeds_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=r"^feed: .* cannot name a feed; use"):
        check_feed_id(name)


@pytest.mark.parametrize("name", ["a", "x" * 128, "Gate_1.north-2"])
def test_a_plain_name_can_be_a_feeds(name: str) -> None:
    assert check_feed_id(name) == name


def test_a_dead_letter_carries_the_record_as_it_came_and_why() -> None:
    record = Record(AT, 1_790_000_000_000, b"\xff", b"junk", (("seq", b"\xfe"), ("other", b"x")))
    letter = dead_letter(DeadLetter(record, "seq: is wrong"), "video.dlq.v1")
    headers = dict(letter.headers)
    assert (letter.topic, letter.key, letter.value) == ("video.dlq.v1", b"\xff", b"junk")
    assert letter.headers[:2] == record.headers
    assert headers["dlq-reason"] == b"seq: is wrong"
    assert (headers["dlq-topic"], headers["dlq-partition"], headers["dlq-offset"]) == (b"video.chunks.v1", b"3", b"17")
    assert headers["dlq-id"] == b"video.chunks.v1/3/17"
    assert letter == dead_letter(DeadLetter(record, "seq: is wrong"), "video.dlq.v1")


def test_a_dead_letter_stays_small_whatever_its_reason_quotes() -> None:
    letter = DeadLetter(as_record(encode_chunk(CHUNK, "t")), "ce_time: " + "x" * 5_000_000)
    reason = dict(dead_letter(letter, "dlq").headers)["dlq-reason"]
    assert reason.startswith(b"ce_time: x")
    assert len(reason) < 10_000


def test_a_dead_letter_too_large_for_its_topic_can_go_without_its_value() -> None:
    letter = DeadLetter(as_record(encode_chunk(CHUNK, "t")), "payload: damaged")
    short = dead_letter(letter, "dlq", whole=False)
    assert short.value == b""
    assert dict(short.headers)["dlq-left-out"] == f"{len(CHUNK.payload)} bytes of value".encode()
    assert dict(short.headers)["dlq-id"] == dict(dead_letter(letter, "dlq").headers)["dlq-id"]
