"""The whole job in one process: real ffmpeg, real spool, real memory, and a model of mean colours."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from standwatch.actors.topics import open_sink, open_source
from standwatch.configs.schema import (
    BrokerConfig,
    DecodeConfig,
    FlowConfig,
    MemoryConfig,
    ModelConfig,
    ReadingConfig,
    StandwatchConfig,
    TopicsConfig,
)
from standwatch.pipeline.answers import answer_id_of
from standwatch.pipeline.codec import encode_chunk
from standwatch.pipeline.cutting import cut
from standwatch.pipeline.events import parse_alert, parse_answer
from standwatch.pipeline.local import LocalPipeline
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.ports import Compressor
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Answer, Chunk, Outgoing, QueryKind, Record, StandingQuery
from standwatch.pipeline.verify import verify
from tests.fakes import SPACE, Died, FakeModel, Fate, MortalSink, MortalSource, SegmentCompressor
from tests.footage_video import convert
from tests.system import BOTTLES, EVER, PEOPLE, sampled_times

START_MS = 1_790_000_004_000  # where windows of two and of three seconds end
LIGHT = StandingQuery("light", "Is the light on?", every_ms=2_000, window_ms=2_000, open_at=0.7, close_at=0.3)
REPORT = StandingQuery("report", "What is there?", kind=QueryKind.TEXT, every_ms=3_000, window_ms=6_000)
LEVELS = (0, 0, 255, 255, 170, 170, 0, 0, 0)  # brightness of each second


@pytest.fixture(scope="session")
def lamp(tmp_path_factory: pytest.TempPathFactory) -> list[Chunk]:
    """A lamp that goes on, is dimmed and goes off, at 10 frames/s; each second is a chunk."""
    level = "+".join(f"{level}*between(N,{10 * second},{10 * second + 9})" for second, level in enumerate(LEVELS))
    drawn = f"color=black:size=64x36:rate=10:duration={len(LEVELS)},format=gray,geq=lum='{level}'"
    path = tmp_path_factory.mktemp("lamp") / "lamp.mp4"
    convert(path, "-f", "lavfi", "-i", drawn, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "10")
    chunks = list(cut(str(path), "yard", START_MS, chunk_ms=1_000))
    assert len(chunks) == len(LEVELS)
    return chunks


class World:
    """One spool and one memory, and the processes that come and go on them."""

    def __init__(self, root: Path, sample_fps: float = 2.0, poll_records: int = 2, frame_tokens: int = 16) -> None:
        self.config = StandwatchConfig(
            broker=BrokerConfig(kind="spool", spool_dir=str(root / "spool")),
            topics=TopicsConfig(partitions=2),
            memory=MemoryConfig(path=str(root / "memory"), commit_ms=10),
            decode=DecodeConfig(sample_fps=sample_fps, thumbnail_side_px=32),
            flow=FlowConfig(poll_records=poll_records, poll_timeout_ms=20, batch_wait_ms=0),
            reading=ReadingConfig(evidence_frames=3, max_due_windows=1000),
            model=ModelConfig(frame_tokens=frame_tokens, segment_frames=16),
        )

    def ask(self, *queries: StandingQuery) -> None:
        store = QueryStore(Path(self.config.memory.path) / "queries")
        for query in queries:
            store.add(query)

    def publish(self, chunks: Iterable[Chunk]) -> None:
        self.send(encode_chunk(chunk, self.config.topics.chunks) for chunk in chunks)

    def send(self, records: Iterable[Outgoing]) -> None:
        sink = open_sink(self.config.broker, self.config.topics)
        for record in records:
            sink.send(record)
        sink.flush()
        sink.close()

    def run(self, fate: Fate | None = None, compressor: Compressor | None = None) -> FakeModel:
        """One life of a pipeline, from its start to idleness or to the death that `fate` has for it.

        A compressor that is given may have lived before, and have a fate of its own.
        """
        fate = fate or Fate()
        model = FakeModel(fate)
        source = MortalSource(open_source(self.config.broker, self.config.topics, self.config.topics.chunks), fate)
        sink = MortalSink(open_sink(self.config.broker, self.config.topics), fate)
        try:
            made = LocalPipeline(
                self.config, source, sink, compressor or model.compressor, model.reader, model.language
            )
            made.run_until_idle()
            made.close()
        finally:
            source.close()
            sink.close()
        return model

    def frames(self) -> dict[str, list[int]]:
        reader = MemoryReader(self.config.memory.path)
        return {feed.feed_id: reader.window(feed.feed_id, EVER).frame_ms.tolist() for feed in reader.feeds()}

    def tokens(self, feed: str) -> list[list[float]]:
        """Of a memory of one token per frame."""
        tokens: list[list[float]] = MemoryReader(self.config.memory.path).window(feed, EVER).tokens[:, 0].tolist()
        return tokens

    def records(self, topic: str) -> list[Record]:
        source = open_source(self.config.broker, self.config.topics, topic)
        source.assign({partition: None for partition in source.partitions()})
        found: list[Record] = []
        while some := source.poll(1000, 20):
            found += some
        source.close()
        return found

    def answers(self) -> list[Answer]:
        return [parse_answer(record) for record in self.records(self.config.topics.answers)]

    def alerts(self) -> list[tuple[str, int, str, float]]:
        """Transition, revision, id and end (seconds since the start), each once, as a consumer that drops repeats."""
        said = [parse_alert(record) for record in self.records(self.config.topics.alerts)]
        rows = [(a.transition.value, a.revision, a.alert_id, (a.observed_ms - START_MS) / 1000) for a in said]
        return list(dict.fromkeys(rows))


def end_s(answer: Answer) -> float:
    return (answer.window.to_ms - START_MS) / 1000


def test_footage_goes_through_and_memory_holds_exactly_the_sampled_frames(tmp_path: Path) -> None:
    world = World(tmp_path)
    for feed, video in (("hall", PEOPLE), ("belt", BOTTLES)):
        world.publish(cut(str(video), feed, START_MS))
    world.run()
    held = world.frames()
    assert held.keys() == {"hall", "belt"}
    for feed, video in (("hall", PEOPLE), ("belt", BOTTLES)):
        expected = sampled_times(video, 2.0, START_MS)
        assert len(held[feed]) == len(expected) > 70
        # A chunk's start and a frame's place in it are rounded to milliseconds each; the next frame is 16 ms away.
        assert np.abs(np.array(held[feed]) - expected).max() <= 1
    assert world.records(world.config.topics.dead_letters) == []


def test_a_second_run_on_the_same_memory_adds_nothing(tmp_path: Path, lamp: list[Chunk]) -> None:
    world = World(tmp_path)
    world.ask(LIGHT, REPORT)
    world.publish(lamp)
    world.run()
    frames, answers, alerts = world.frames(), world.answers(), world.alerts()
    again = world.run()
    assert answers and len(frames["yard"]) == 2 * len(LEVELS)
    assert (world.frames(), world.answers(), world.alerts()) == (frames, answers, alerts)
    assert "compress" not in again.fate.calls and "read" not in again.fate.calls


def test_chunks_published_twice_are_in_memory_once(tmp_path: Path, lamp: list[Chunk]) -> None:
    world = World(tmp_path)
    world.publish(lamp[:4])
    world.run()
    once = world.frames()
    world.publish(lamp[:4])
    world.run()
    assert world.frames() == once


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, lamp: list[Chunk]) -> World:
    """What becomes of the lamp when nothing dies."""
    world = World(tmp_path_factory.mktemp("undisturbed"))
    watch_from_the_first_second(world, lamp)
    world.run()
    return world


def watch_from_the_first_second(world: World, lamp: Sequence[Chunk]) -> None:
    """The queries meet the feed at its first second, so that every window after it is due whatever the timing."""
    world.ask(LIGHT, REPORT)
    world.publish(lamp[:1])
    world.run()
    world.publish(lamp[1:])


@pytest.mark.parametrize(
    ("port", "call"),
    [
        *(("poll", 1), ("poll", 3), ("compress", 1), ("compress", 2), ("compress", 4), ("read", 1), ("read", 4)),
        *(("answer", 1), ("answer", 2), ("send", 1), ("send", 3), ("sent", 1), ("sent", 5)),
        *(("flush", 1), ("flush", 3), ("written", 2), ("written", 5), ("flushed", 1), ("flushed", 2), ("flushed", 4)),
    ],
)
def test_after_a_death_at_any_port_every_frame_and_every_answer_is_there_once(
    tmp_path: Path, lamp: list[Chunk], undisturbed: World, port: str, call: int
) -> None:
    world = World(tmp_path)
    watch_from_the_first_second(world, lamp)
    with pytest.raises(Died):
        world.run(Fate(port, call))
    world.run()
    assert world.frames() == undisturbed.frames()
    assert not [finding for finding in verify(world.config.memory.path) if finding.is_error]
    expected = {answer.answer_id: answer for answer in undisturbed.answers()}
    assert len(expected) == len(undisturbed.answers()), "an undisturbed run repeats nothing"
    said = world.answers()
    assert {answer.answer_id: answer for answer in said} == expected
    assert all(answer == expected[answer.answer_id] for answer in said), "a repeated answer says the same"
    assert world.alerts() == undisturbed.alerts()


@pytest.mark.parametrize("call", [1, 2, 3, 4])
@pytest.mark.parametrize("survives", [True, False])
def test_after_a_death_a_compressor_that_keeps_state_goes_on_with_the_same_tokens(
    tmp_path: Path, lamp: list[Chunk], call: int, survives: bool
) -> None:
    """18 frames at two a second: segments of 16 begin every 4 s. Whatever survives must forget, or it would refuse."""
    calm, troubled = World(tmp_path / "calm", frame_tokens=1), World(tmp_path / "troubled", frame_tokens=1)
    grid = SegmentGrid(2.0, 16)
    for world in (calm, troubled):
        world.publish(lamp)
    calm.run(compressor=SegmentCompressor(grid, Fate()))
    compressor = SegmentCompressor(grid, Fate("compress", call))
    with pytest.raises(Died):
        troubled.run(compressor=compressor)
    troubled.run(compressor=compressor if survives else SegmentCompressor(grid, Fate()))
    assert troubled.frames() == calm.frames()
    expected = calm.tokens("yard")
    assert len(expected) == 2 * len(LEVELS)
    assert troubled.tokens("yard") == expected


def test_dying_again_and_again_still_comes_to_the_same_end(
    tmp_path: Path, lamp: list[Chunk], undisturbed: World
) -> None:
    world = World(tmp_path)
    watch_from_the_first_second(world, lamp)
    deaths = 0
    for port in ("compress", "read", "sent", "flushed", "answer", "send", "flush", "poll"):
        try:
            world.run(Fate(port, 2))
        except Died:
            deaths += 1
    world.run()
    assert deaths >= 4
    assert world.frames() == undisturbed.frames()
    assert {a.answer_id for a in world.answers()} == {a.answer_id for a in undisturbed.answers()}


def test_a_record_that_is_no_video_goes_to_the_dead_letters_and_the_others_go_on(
    tmp_path: Path, lamp: list[Chunk]
) -> None:
    world = World(tmp_path)
    topics = world.config.topics
    noise = replace(encode_chunk(lamp[1], topics.chunks), value=b"this is not video")
    bare = Outgoing(topics.chunks, b"yard", b"no headers at all", (), START_MS)
    world.publish(lamp[:1])
    world.send([noise, bare])
    world.publish(lamp[2:4])
    world.run()
    letters = [(dict(letter.headers), letter.value) for letter in world.records(topics.dead_letters)]
    letters.sort(key=lambda letter: letter[1])
    assert [value for _, value in letters] == [b"no headers at all", b"this is not video"]
    assert b"header is missing" in letters[0][0]["dlq-reason"]
    assert letters[1][0]["ce_id"] == dict(noise.headers)["ce_id"]
    assert {headers["dlq-topic"] for headers, _ in letters} == {topics.chunks.encode()}
    assert sorted(int(headers["dlq-offset"]) for headers, _ in letters) == [1, 2]
    assert world.frames()["yard"] == [START_MS + at for at in (0, 500, 2000, 2500, 3000, 3500)]


def test_a_death_between_dead_letter_and_memory_repeats_the_letter_under_its_own_id(
    tmp_path: Path, lamp: list[Chunk]
) -> None:
    world = World(tmp_path)
    topics = world.config.topics
    world.publish(lamp[:1])
    world.send([Outgoing(topics.chunks, b"yard", b"no headers at all", (), START_MS)])
    with pytest.raises(Died):
        world.run(Fate("compress", 1))
    world.run()
    letters = [dict(letter.headers)["dlq-id"] for letter in world.records(topics.dead_letters)]
    assert len(letters) == 2 and len(set(letters)) == 1
    assert len(world.frames()["yard"]) == 2


def test_an_alert_opens_is_updated_and_closes_with_the_light(tmp_path: Path, lamp: list[Chunk]) -> None:
    world = World(tmp_path)
    world.ask(LIGHT)
    for chunk in lamp:
        world.publish([chunk])
        world.run()  # every second in a life of its own: an open alert outlives them
    said = world.alerts()
    assert [(transition, revision, at_s) for transition, revision, _, at_s in said] == [
        ("opened", 0, 4.0),
        ("updated", 1, 6.0),
        ("closed", 2, 8.0),
    ]
    assert len({alert_id for _, _, alert_id, _ in said}) == 1
    opened = parse_alert(world.records(world.config.topics.alerts)[0])
    assert opened.text == "Is the light on? 12 soft tokens"
    assert [frame.frame_ms for frame in opened.evidence] == [START_MS + at for at in (2000, 2500, 3000)]
    assert all(frame.thumbnail_sha256 for frame in opened.evidence)


def test_windows_that_are_late_together_move_the_alert_in_the_order_of_time(tmp_path: Path, lamp: list[Chunk]) -> None:
    world = World(tmp_path, poll_records=64)
    watch_from_the_first_second(world, lamp)
    world.run()
    assert [(transition, at_s) for transition, _, _, at_s in world.alerts()] == [
        ("opened", 4.0),
        ("updated", 6.0),
        ("closed", 8.0),
    ]


def test_alerts_are_the_same_when_every_second_dies_once(tmp_path: Path, lamp: list[Chunk]) -> None:
    calm, troubled = World(tmp_path / "calm"), World(tmp_path / "troubled")
    deaths = 0
    for world in (calm, troubled):
        world.ask(LIGHT)
    for second, chunk in enumerate(lamp):
        calm.publish([chunk])
        calm.run()
        troubled.publish([chunk])
        try:
            troubled.run(Fate(("sent", "flushed", "written", "flush")[second % 4], 1))
        except Died:
            deaths += 1
        troubled.run()
    assert deaths >= 4
    assert len(calm.alerts()) == 3
    assert troubled.alerts() == calm.alerts()


def test_a_text_query_gets_words_about_tokens_from_memory(tmp_path: Path, lamp: list[Chunk]) -> None:
    world = World(tmp_path)
    world.ask(REPORT)
    world.publish(lamp[:1])
    world.run()
    world.publish(lamp[1:])
    model = world.run()
    (answer,) = [one for one in world.answers() if end_s(one) == 6]
    assert answer.text == "What is there? 12 soft tokens"
    assert (answer.model, answer.weights) == ("soft-token-counter", "untrained")
    (shown,) = [evidence for evidence in model.language.seen if evidence.window == answer.window]
    held = MemoryReader(world.config.memory.path).window("yard", answer.window)
    picked = np.isin(held.frame_ms, shown.frame_ms)
    assert shown.token_space == SPACE and picked.sum() == 3
    np.testing.assert_array_equal(shown.tokens, held.tokens[picked])
    assert shown.tokens.min() > 0.9, "the brightest frames are the evidence"
    assert all(jpeg.startswith(b"\xff\xd8") for jpeg in shown.thumbnails)
    assert world.alerts() == []


def test_a_window_before_the_first_frame_is_unknown_and_costs_no_words(tmp_path: Path, lamp: list[Chunk]) -> None:
    world = World(tmp_path)
    world.ask(REPORT, LIGHT)
    world.publish(lamp[:1])
    model = world.run()
    empty = [answer for answer in world.answers() if answer.window.to_ms <= START_MS]
    assert {answer.query_id for answer in empty} == {"light", "report"}
    assert all((a.verdict.value, a.probability, a.text, a.evidence) == ("unknown", 0.5, "", ()) for a in empty)
    assert model.language.seen == []


def test_ids_depend_on_query_feed_and_window_and_on_nothing_else(tmp_path: Path, lamp: list[Chunk]) -> None:
    first, second = World(tmp_path / "first"), World(tmp_path / "second", sample_fps=5.0)
    for world in (first, second):
        watch_from_the_first_second(world, lamp)
        world.run()
    ids = [answer.answer_id for answer in first.answers()]
    assert len(ids) == len(set(ids)) > 4
    assert set(ids) == {answer.answer_id for answer in second.answers()}
    by_id = {query.query_id: query for query in (LIGHT, REPORT)}
    for answer in first.answers():
        assert answer.answer_id == answer_id_of(by_id[answer.query_id], "yard", answer.window)


def test_two_feeds_are_answered_apart(tmp_path: Path, lamp: list[Chunk]) -> None:
    world = World(tmp_path)
    world.ask(LIGHT)
    dark = [replace(chunk, feed_id="cellar", payload=lamp[0].payload) for chunk in lamp]
    world.publish([lamp[0], dark[0]])
    world.run()
    world.publish([chunk for pair in zip(lamp[1:], dark[1:], strict=True) for chunk in pair])
    world.run()
    bright = {a.feed_id for a in world.answers() if a.verdict.value == "yes"}
    assert bright == {"yard"}
    assert {a.feed_id for a in world.answers()} == {"yard", "cellar"}
