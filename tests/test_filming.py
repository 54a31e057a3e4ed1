"""Lessons are drawn by many processes and are the same as one would have drawn."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from standwatch.actors.filming import Reel, film_shards
from standwatch.actors.lesson_footage import Film, seen_by, unseen
from standwatch.compression.tuning.examples import Example, read_shard, shards
from tests.drawn_world import PLAIN
from tests.test_lesson_footage import MODEL

REEL = Reel("plain", takes=2)


def open_tower() -> partial[list[Example]]:
    return partial(seen_by, MODEL)


def open_nothing() -> partial[list[Example]]:
    raise RuntimeError("no weights")


def load_plain() -> Film:
    return Film(PLAIN)


def load_nothing() -> Film:
    raise RuntimeError("no drawings")


def test_shards_of_two_processes_are_those_of_one_and_what_is_there_stays(tmp_path: Path) -> None:
    assert film_shards(REEL, range(3, 8), tmp_path, open_tower, load_plain, workers=2) == 5
    assert shards(tmp_path) == [f"plain-2-{number:06}" for number in range(3, 8)]
    film = Film(PLAIN)
    for number in range(3, 8):
        for one, other in zip(
            read_shard(tmp_path, REEL.name(number)), seen_by(MODEL, film.shard(number, 2, False)), strict=True
        ):
            assert (one.source, one.times_ms, one.objects, one.asked) == (
                other.source,
                other.times_ms,
                other.objects,
                other.asked,
            )
            assert torch.equal(one.features, other.features.half())
    before = (tmp_path / "plain-2-000003.safetensors").stat().st_mtime_ns
    assert film_shards(REEL, range(3, 9), tmp_path, open_tower, load_plain, workers=2) == 1
    assert (tmp_path / "plain-2-000003.safetensors").stat().st_mtime_ns == before
    assert film_shards(REEL, range(3, 9), tmp_path, open_nothing, load_nothing, workers=2) == 0


def test_pictures_are_stored_as_they_are_and_nobody_needs_to_see_them(tmp_path: Path) -> None:
    reel = replace(REEL, pictures=True)
    assert film_shards(reel, range(3, 4), tmp_path, lambda: unseen, load_plain, workers=1) == 1
    assert shards(tmp_path) == ["plain-pictures-2-000003"]
    shots = Film(PLAIN).shard(3, 2, False)
    for one, shot in zip(read_shard(tmp_path, reel.name(3)), shots, strict=True):
        assert one.features.dtype is torch.uint8 and (one.features.numpy() == shot.pictures).all()
        assert (one.objects, one.asked) == (shot.objects, shot.asked)


def test_a_process_that_cannot_draw_ends_the_filming(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="process pool"):
        film_shards(REEL, range(2), tmp_path, open_tower, load_nothing, workers=1)
    assert shards(tmp_path) == []


def load_and_tell() -> Film:
    """Its process says which it is."""
    print(os.getpid(), flush=True)
    return load_plain()


def film_for_ever() -> None:
    film_shards(REEL, range(100_000), Path(sys.argv[1]), open_tower, load_and_tell, workers=2)


def test_processes_that_draw_end_with_the_one_that_was_killed(tmp_path: Path) -> None:
    code = "from tests.test_filming import film_for_ever; film_for_ever()"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as filming:
        assert filming.stdout is not None
        drawing = [int(filming.stdout.readline()) for _ in range(2)]
        filming.kill()
    deadline = time.monotonic() + 30
    while any(is_running(number) for number in drawing):
        assert time.monotonic() < deadline, "they still draw"
        time.sleep(0.1)


def is_running(number: int) -> bool:
    """One that ended and that nobody has asked for yet does not run."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_shards_name_says_what_is_in_it() -> None:
    assert Reel("noto", 64, for_tests=True).name(7) == "noto-test-64-000007"
    assert Reel("noto", 64, stills=True).name(7) == "noto-stills-64-000007"
    assert Reel("noto", 64, stills=True, of="police car").name(7) == "noto-stills-police_car-64-000007"
    assert Reel("noto", 64, for_tests=True, context=True).name(7) == "noto-test-context-64-000007"
    assert Reel("noto", 64, real=True).name(7) == "real-64-000007"
    assert Reel("noto", 64, real=True, pictures=True).name(7) == "real-pictures-64-000007"
