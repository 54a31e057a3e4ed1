"""Films lessons: many processes draw, and this one makes lessons of what they have drawn, seen or as pictures."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from rich.progress import track

from standwatch.actors.footage import bundled
from standwatch.actors.lesson_footage import Film, Shot, load_artwork
from standwatch.actors.real_lessons import real_frames
from standwatch.compression.tuning.examples import Example, shards, write_shard

_AHEAD = 2  # shards of each process that are drawn or wait to be seen


@dataclass(frozen=True)
class Reel:
    """What is filmed: which drawings, how many takes in a shard, and of what kind they are."""

    style: str
    takes: int
    for_tests: bool = False
    stills: bool = False
    windows: bool = False
    of: str = ""  # what most stills show, or occurs once in the windows' scenes
    real: bool = False
    context: bool = False
    varied: bool = False  # each shard drawn by a hand of its own
    pictures: bool = False  # stored as they are, for a tower that is to learn

    def name(self, number: int) -> str:
        of = self.of.replace(" ", "_")
        kinds = {
            "test": self.for_tests,
            "stills": self.stills,
            "windows": self.windows,
            of: bool(of),
            "context": self.context,
            "varied": self.varied,
            "pictures": self.pictures,
        }
        drawn = "-".join(["real" if self.real else self.style, *(kind for kind, wanted in kinds.items() if wanted)])
        return f"{drawn}-{self.takes}-{number:06}"


def film_shards(
    reel: Reel,
    numbers: Iterable[int],
    to: Path,
    opening: Callable[[], Callable[[Sequence[Shot]], Sequence[Example]]],
    loading: Callable[[], Film],
    workers: int,
) -> int:
    """Film the shards of these numbers that a folder has not; how many were new.

    Only where some are missing, what makes lessons of shots is opened, and then a film is loaded by each process that
    draws. Raises what opening raises, BrokenProcessPool if a film cannot be loaded, and OSError for files that cannot
    be written.
    """
    there = set(shards(to))
    missing = [number for number in numbers if reel.name(number) not in there]
    if missing:
        lessons_of = opening()
        workers = min(workers, len(missing))
        with ProcessPoolExecutor(workers, get_context("spawn"), _load, (loading,)) as pool:
            drawn = _in_turn(pool, reel, missing, workers * _AHEAD)
            for number in track(missing, "filming"):
                write_shard(to, reel.name(number), lessons_of(next(drawn)))
    return len(missing)


def load_film(reel: Reel) -> Film:
    """Raises Unavailable without drawings."""
    return Film(load_artwork(reel.style), frames=real_frames(bundled()) if reel.real else ())


def _in_turn(pool: ProcessPoolExecutor, reel: Reel, numbers: list[int], ahead: int) -> Iterator[list[Shot]]:
    """Each shard's shots; only so many are drawn ahead, because drawn frames are large."""
    waiting: deque[Future[list[Shot]]] = deque()
    for number in numbers:
        waiting.append(pool.submit(_draw, reel, number))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_loaded: list[Film] = []  # in a process that draws: its film


def _load(loading: Callable[[], Film]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    _loaded.append(loading())


def _end_with_parent() -> None:
    """A parent that was killed can tell nobody, and its processes would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _draw(reel: Reel, number: int) -> list[Shot]:
    (film,) = _loaded
    if reel.real:
        return film.real(number, reel.takes)
    return film.shard(
        number,
        reel.takes,
        reel.for_tests,
        stills=reel.stills,
        windows=reel.windows,
        of=reel.of,
        context=reel.context,
        varied=reel.varied,
    )
