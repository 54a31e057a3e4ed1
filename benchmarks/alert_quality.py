"""How often standing alerts are true, and how many events they find: two hours of film that nothing was trained on.

Feeds of different sites, with scenes and places of test seeds, are filmed at the rate that is sampled, coded as H.264,
published, and watched by the pipeline in one process: its ffmpeg, memory, windows, reader and alerts as a run has them,
in the demo's configuration. Every yes/no query of the demo is asked of every feed, with its own period, window and
thresholds. Their words are among those of training, the scenes are not. Only the words about an alert are left out, and
no window is passed over for being late: how fast this machine is shall not count.

The truth is the renderer's, frame by frame. Somebody has fallen from the beginning of the fall until they are up again.
What counts as right, false, found and missed, with a tolerance of 5 s, stands at the top of `alert_matching`. An alert
opens at the end of the window that opened it. Shares come with their 95 % intervals (Wilson).

    python -m benchmarks.alert_quality [--feeds 6] [--minutes 20]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import merge
from importlib.resources import files
from pathlib import Path

import torch

from benchmarks.alert_matching import Rules, Tally, Truth, open_spans, tally, truth_of
from benchmarks.models import verdict
from benchmarks.quality import wilson
from benchmarks.workload import START_MS, configuration
from standwatch.actors.drawings import TRAINING
from standwatch.actors.inference import Inference
from standwatch.actors.lesson_footage import load_artwork
from standwatch.actors.topics import open_sink, open_source
from standwatch.actors.tuned_weights import quick_dtype, tuned_folder
from standwatch.actors.world_feed import film_camera
from standwatch.compression.tuning.quiz_subjects import BY_NAME
from standwatch.compression.tuning.shown import Shown, shown
from standwatch.compression.tuning.takes import TEST_SEEDS
from standwatch.compression.world.artwork import Artwork
from standwatch.compression.world.camera import Camera
from standwatch.compression.world.director import direct
from standwatch.compression.world.script import What
from standwatch.compression.world.sites import SITES
from standwatch.compression.world.truth import present
from standwatch.configs.schema import StandwatchConfig
from standwatch.pipeline.codec import encode_chunk
from standwatch.pipeline.events import parse_alert
from standwatch.pipeline.local import LocalPipeline
from standwatch.pipeline.ports import Completion, Compressor, QuestionReader
from standwatch.pipeline.queries import queries_from_file
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.types import Alert, Evidence, QueryKind, Reading, ReadRequest, StandingQuery, Window

TARGET = 0.95
TOLERANCE_MS = 5_000
_FALL = "fall"  # asked of the whole window; all others of its last frame
_PER_MINUTE = 4.0  # acts, as in the demo's drawn feeds
_SIDE_PX = 224  # what is clear is defined for pictures of this size
_TELL_EVERY_MS = 300_000
_SUBJECTS = {one.name: one for one in BY_NAME}


class Together:
    """Reads all queries of a window in one pass, as a run does; the pipeline of one process asks one after the other.

    Says how far the film is.
    """

    def __init__(self, reader: QuestionReader, queries: Sequence[StandingQuery]) -> None:
        self._reader, self._queries = reader, tuple(queries)
        self._said: dict[tuple[str, str, Window], Reading] = {}
        self._began, self._told_ms = time.monotonic(), START_MS

    def read(self, requests: Sequence[ReadRequest]) -> list[list[Reading]]:
        return [[self._one(request, query) for query in request.queries] for request in requests]

    def _one(self, request: ReadRequest, query: StandingQuery) -> Reading:
        key = query.query_id, request.memory.feed_id, request.window
        if key not in self._said:
            length_ms = request.window.to_ms - request.window.from_ms
            alike = tuple(one for one in self._queries if one.window_ms == length_ms)
            (readings,) = self._reader.read([replace(request, queries=alike)])
            self._said = {(one.query_id, one.feed_id, one.window): one for one in readings}
            self._tell(request.window.to_ms)
        return self._said[key]

    def _tell(self, at_ms: int) -> None:
        if at_ms >= self._told_ms + _TELL_EVERY_MS:
            self._told_ms = at_ms
            print(f"{(at_ms - START_MS) / 60_000:g} min watched in {time.monotonic() - self._began:.0f} s", flush=True)


class Wordless:
    """Writes nothing: alerts do not depend on the words about them."""

    name = weights = "none"

    def answer(self, question: str, evidence: Evidence) -> Completion:
        return Completion("", 0, 0)


def cameras(feeds: int, minutes: float, fps: float, artwork: Artwork) -> dict[str, Camera]:
    """A feed of every site in turn; a place's seed is its scene's, and so none of training's."""
    found = {}
    for number in range(feeds):
        site = SITES[number % len(SITES)]
        scene = direct(TEST_SEEDS + number, site, minutes, _PER_MINUTE, width=_SIDE_PX, height=_SIDE_PX, fps=fps)
        found[f"{site}-{number}"] = Camera(scene, artwork)
    return found


def frame_times(camera: Camera) -> tuple[int, ...]:
    """Of every frame of its scene."""
    return tuple(range(0, camera.scene.length_ms, round(1000 / camera.scene.fps)))


def in_step(feeds: int) -> tuple[str, ...]:
    """Settings with which every feed's next clip is compressed, remembered and asked about before any other."""
    return (
        "topics.partitions=1",
        f"flow.poll_records={feeds}",
        f"flow.batch_clips={feeds}",
        "memory.commit_ms=10",
        "reading.max_due_windows=1000",
    )


def watched(
    config: StandwatchConfig,
    queries: Sequence[StandingQuery],
    feeds: Mapping[str, Camera],
    compressor: Compressor,
    reader: QuestionReader,
) -> list[Alert]:
    """Publish what the cameras see and watch it to its end: every transition of an alert, by feed in order.

    Raises RuntimeError if frames were lost.
    """
    store = QueryStore(Path(config.memory.path) / "queries")
    for query in queries:
        store.add(query)
    print(f"filming {', '.join(feeds)}", flush=True)
    sink = open_sink(config.broker, config.topics)
    films = (film_camera(camera, feed_id, START_MS) for feed_id, camera in feeds.items())
    for chunk in merge(*films, key=lambda one: one.start_ms):
        sink.send(encode_chunk(chunk, config.topics.chunks))
    source = open_source(config.broker, config.topics, config.topics.chunks)
    pipeline = LocalPipeline(config, source, sink, compressor, Together(reader, queries), Wordless())
    pipeline.run_until_idle()
    held = {one.feed_id: one.frames for one in pipeline.memory.progress()}
    pipeline.close()
    source.close()
    sink.close()
    filmed = {feed_id: len(frame_times(camera)) for feed_id, camera in feeds.items()}
    if held != filmed:
        raise RuntimeError(f"frames: {held} arrived of {filmed}; every one must, see the dead letters")
    alerts = open_source(config.broker, config.topics, config.topics.alerts)
    alerts.assign({partition: None for partition in alerts.partitions()})
    said = []
    while records := alerts.poll(1000, 20):
        said += [parse_alert(record) for record in records]
    alerts.close()
    return said


def answer(query_id: str, film: Shown, frame: int) -> bool | None:
    """The true answer about a frame; None where it cannot be told, or is a matter of taste.

    Raises ValueError for a query whose truth is not known here.
    """
    seen, t_ms = film.seen[frame], film.times_ms[frame]
    if query_id == _FALL:
        falls = (one for one in film.events if one.what is What.FALLS and one.start_ms <= t_ms < one.end_ms)
        down = {one.actor for one in falls}
        return present([one for one in seen if one.actor in down], "person")
    if query_id not in _SUBJECTS:
        raise ValueError(f"query_id: the truth about {query_id!r} is not known; name the query as what it asks for")
    subject = _SUBJECTS[query_id]
    there = subject.there(seen)
    return None if not there and subject.in_doubt(seen, film.fixtures) else there


def watched_to_ms(query: StandingQuery, film: Shown) -> int:
    """The end of the last window that the film completes."""
    return film.last_ms // query.every_ms * query.every_ms


def truth(query: StandingQuery, film: Shown) -> Truth:
    """Of all frames that are in a window."""
    step_ms = film.times_ms[1] - film.times_ms[0]
    frames = range(watched_to_ms(query, film) // step_ms)
    return truth_of([answer(query.query_id, film, frame) for frame in frames], step_ms)


def shared(count: int, of: int) -> str:
    """'9 of 10 (0.596 .. 0.982)'"""
    low, high = wilson(count, of) if of else (0.0, 1.0)
    return f"{count} of {of} ({low:.3f} .. {high:.3f})"


def told(name: str, one: Tally) -> None:
    right, found = shared(one.right, one.right + one.false), shared(one.found, one.found + one.missed)
    print(f"{name}: alerts that are right {right}, events that are found {found}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--feeds", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=20, help="of each feed")
    parser.add_argument("--checkpoint", default="")
    chosen = parser.parse_args(arguments)
    asked = queries_from_file(Path(str(files("standwatch.configs") / "demo-queries.yaml")))
    queries = [replace(query, feeds=("*",)) for query in asked if query.kind is QueryKind.YES_NO]
    model = (f"model.checkpoint={chosen.checkpoint or tuned_folder()}", f"model.dtype={quick_dtype()}")
    with tempfile.TemporaryDirectory(prefix="standwatch-bench-") as root:
        config = configuration(Path(root), *in_step(chosen.feeds), *model, f"model.threads={torch.get_num_threads()}")
        fps = config.decode.sample_fps
        feeds = cameras(chosen.feeds, chosen.minutes, fps, load_artwork(TRAINING))
        films = {feed_id: shown(camera, frame_times(camera)) for feed_id, camera in feeds.items()}
        truths = {(query.query_id, feed_id): truth(query, film) for query in queries for feed_id, film in films.items()}
        inference = Inference(config.model, config.reading, fps)
        said = watched(config, queries, feeds, inference, inference)
    total = Tally()
    for query in queries:
        rules = Rules(query.every_ms, TOLERANCE_MS, query.window_ms if query.query_id == _FALL else 0)
        counts = Tally()
        for feed_id, film in films.items():
            own = (one for one in said if (one.query.query_id, one.feed_id) == (query.query_id, feed_id))
            alerts = open_spans(own, START_MS, watched_to_ms(query, film))
            counts += tally(alerts, truths[query.query_id, feed_id], rules)
        told(query.query_id, counts)
        total += counts
    told("all", total)
    precision = total.right / max(1, total.right + total.false)
    recall = total.found / max(1, total.found + total.missed)
    good = [
        verdict(name, value, TARGET, at_least=True, digits=3)
        for name, value in (("alert_precision", precision), ("alert_recall", recall))
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
