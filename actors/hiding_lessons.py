"""Makes segments out of lessons on disk, see `compression.tuning.hiding`."""

import random
from collections.abc import Iterable
from pathlib import Path

from rich.progress import track

from standwatch.compression.tuning.examples import read_shard, shards, write_shard
from standwatch.compression.tuning.hiding import hidden
from standwatch.pipeline.errors import BadInput

_POOL = 12  # shards of lessons that a shard of segments is made of
_HIDDEN = "hidden"


def hide_shards(lessons: Path, to: Path, numbers: Iterable[int], takes: int, frames: int) -> int:
    """Make the shards of these numbers, of segments of up to so many frames, that a folder has not; how many were new.

    What is hidden is never hidden again, so both folders may be the same. Raises BadInput where there are no lessons,
    or nothing in them can be asked for.
    """
    filmed = [name for name in shards(lessons) if not name.startswith(_HIDDEN)]
    if not filmed:
        raise BadInput(f"--lessons: {lessons} has none; film some first")
    there = set(shards(to))
    missing = [number for number in numbers if _name(takes, frames, number) not in there]
    for number in track(missing, "hiding"):
        chance = random.Random(f"hidden {number}")
        among = chance.sample(filmed, min(_POOL, len(filmed)))
        pool = [example for name in among for example in read_shard(lessons, name)]
        try:
            made = [hidden(pool, chance, frames) for _ in range(takes)]
        except ValueError as error:
            raise BadInput(f"--lessons: {lessons}: {error}") from None
        write_shard(to, _name(takes, frames, number), made)
    return len(missing)


def _name(takes: int, frames: int, number: int) -> str:
    return f"{_HIDDEN}-{frames}-{takes}-{number:06}"
