"""Segments made of lessons on disk: `standwatch train hide`."""

from pathlib import Path

import torch

from standwatch.actors.hiding_lessons import hide_shards
from standwatch.compression.tuning.examples import Example, Object, read_shard, shards, write_shard


def lesson(kind: str) -> Example:
    thing = Object(kind, "", (0.1, 0.1, 0.4, 0.4))
    return Example(torch.ones(4, 2, 3), (0, 500, 1000, 1500), ((thing,),) * 4, (), f"window {kind}")


def test_segments_lie_beside_the_lessons_and_are_never_hidden_again(tmp_path: Path) -> None:
    write_shard(tmp_path, "filmed-000000", [lesson("dog"), lesson("bus"), lesson("drum")])
    assert hide_shards(tmp_path, tmp_path, range(2), takes=3, frames=8) == 2
    assert shards(tmp_path) == ["filmed-000000", "hidden-8-3-000000", "hidden-8-3-000001"]
    made = [read_shard(tmp_path, name) for name in shards(tmp_path)[1:]]
    assert [len(some) for some in made] == [3, 3]
    assert all(one.asked and one.source.count("hidden") == 1 for some in made for one in some)
    assert hide_shards(tmp_path, tmp_path, range(3), takes=3, frames=8) == 1, "those that are there stay"
    (third,) = (name for name in shards(tmp_path) if name.endswith("2"))
    assert all(one.source.count("hidden") == 1 for one in read_shard(tmp_path, third))


def test_a_shard_depends_on_its_number_alone(tmp_path: Path) -> None:
    write_shard(tmp_path / "lessons", "filmed-000000", [lesson(kind) for kind in ("dog", "bus", "drum", "duck")])
    for folder, numbers in (("one", range(2)), ("other", range(1, 2))):
        hide_shards(tmp_path / "lessons", tmp_path / folder, numbers, takes=5, frames=12)
    first, second = ((tmp_path / folder / "hidden-12-5-000001.json").read_text() for folder in ("one", "other"))
    assert first == second
    assert first != (tmp_path / "one" / "hidden-12-5-000000.json").read_text()
