"""Decides what a stored example is: features of frames, what is truly in each of them, and what is asked about them.

Where vision does not learn, a frame is encoded once and trained on from what was stored; where it does, pictures are
stored instead. Examples lie in shards, each a pair of files with the same name: NAME.safetensors has the features of
all its frames, one after the other, NAME.json the rest. The second is written last: a shard is complete if it is there.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic

_FEATURES = "features"


@dataclass(frozen=True, slots=True)
class Object:
    """Something that can be recognised in a frame. `box` is left, top, right, bottom in parts of the picture.

    `doing` is empty where that is not known.
    """

    name: str
    colour: str
    box: tuple[float, float, float, float]
    doing: str = ""


@dataclass(frozen=True, eq=False)
class Example:
    """Frames of one feed at `times_ms`: features [F, n, W] before the projector, objects of each, and what is asked.

    Instead of features there may be the pictures themselves, uint8 [F, S, S, 3]. The first `context` frames only stand
    before those that are asked about.
    """

    features: Tensor
    times_ms: tuple[int, ...]
    objects: tuple[tuple[Object, ...], ...]
    asked: tuple[Asked, ...]
    source: str  # that it can be made again from
    context: int = 0

    @property
    def window_ms(self) -> tuple[int, ...]:
        """Of the frames that are asked about."""
        return self.times_ms[self.context :]

    @property
    def window_objects(self) -> tuple[tuple[Object, ...], ...]:
        """Of the frames that are asked about."""
        return self.objects[self.context :]

    @property
    def duration_s(self) -> float:
        """Of the window that is asked about: each frame as long as the gap between two, one frame a second."""
        frames = len(self.window_ms)
        if frames < 2:
            return 1.0
        return (self.window_ms[-1] - self.window_ms[0]) / (frames - 1) * frames / 1000


def are_pictures(features: Tensor) -> bool:
    """Whether an example holds pictures that no vision tower has seen yet."""
    return features.dtype is torch.uint8


def write_shard(folder: Path, name: str, examples: Sequence[Example]) -> None:
    """Raises OSError if the files cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    features = torch.cat([example.features for example in examples])
    stored = features if are_pictures(features) else features.to(torch.float16)
    save_file({_FEATURES: stored}, folder / f"{name}.safetensors")
    rest = [
        {
            "times_ms": example.times_ms,
            "objects": [[asdict(one) for one in frame] for frame in example.objects],
            "asked": [asdict(one) for one in example.asked],
            "source": example.source,
            "context": example.context,
        }
        for example in examples
    ]
    unfinished = folder / f".{name}.json"
    unfinished.write_text(json.dumps(rest), encoding="utf-8")
    unfinished.replace(folder / f"{name}.json")


def read_shard(folder: Path, name: str) -> list[Example]:
    """Raises ValueError for a shard whose files do not belong together."""
    features = load_file(folder / f"{name}.safetensors")[_FEATURES]
    rest = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    counts = [len(one["times_ms"]) for one in rest]
    if sum(counts) != len(features):
        raise ValueError(f"{folder / name}: {len(features)} frames for {sum(counts)} times; remove it to make it anew")
    return [
        Example(
            part,
            tuple(one["times_ms"]),
            tuple(tuple(_object(seen) for seen in frame) for frame in one["objects"]),
            tuple(_asked(q) for q in one["asked"]),
            one["source"],
            one.get("context", 0),  # not in what was filmed before there was any
        )
        for part, one in zip(torch.split(features, counts), rest, strict=True)
    ]


def _object(stored: dict[str, Any]) -> Object:
    doing = stored.get("doing", "")  # some were filmed without
    return Object(stored["name"], stored["colour"], tuple(stored["box"]), doing)


def _asked(stored: dict[str, Any]) -> Asked:
    evidence = tuple(stored.get("evidence", ()))  # some were filmed without
    clauses = tuple((words, tuple(frames)) for words, frames in stored.get("clauses", ()))  # and some without these
    return Asked(Topic(stored["topic"]), stored["question"], stored["answer"], stored["verdict"], evidence, clauses)


def shards(folder: Path) -> list[str]:
    """Names of the complete shards of a folder, in order."""
    return sorted(path.stem for path in folder.glob("[!.]*.json"))
