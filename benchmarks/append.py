"""What durable appends cost: against raw Arrow IPC with the same fsync policy, and as the memory fills.

`append` is measured against the least that stores the same bytes as safely. For each batch the baseline builds the same
record batches and writes them with `pyarrow.ipc` as one file; fsync of the file; fsync of the directory; the position
(offset and last frame of each feed) as a small JSON file under a temporary name; fsync of it; rename over the one
before; fsync of the directory. The product does `MemoryShard.append` and `commit`, and so also checks what it is given,
makes checksums and keeps an index. Neither merges files here. Batches are of four feeds, eight frames of [16, 256]
float16 with 4 KiB thumbnails each; the two take turns, and the value is the median of the ratios of their rates.

`append_flat` is the amortised cost of `append`, `commit` and `maintain` of one feed, eight frames to a commit, all
merging included, in a memory that holds 24 h of the feed at a frame a second, over the same in an empty one.

    python -m benchmarks.append
"""

import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from standwatch.configs.schema import MemoryConfig
from standwatch.pipeline.files import Files
from standwatch.pipeline.rows import Shape, row_schema, to_record_batch
from standwatch.pipeline.shard import MemoryShard
from standwatch.pipeline.types import SourceOffset, TokenBatch

TOPIC = "video.chunks.v1"
FEEDS, FRAMES, TOKENS, WIDTH, THUMBNAIL = 4, 8, 16, 256, 4096
ROUNDS = 600
FLAT_ROUNDS = 768
COMMIT_BYTES = FRAMES * (TOKENS * WIDTH * 2 + THUMBNAIL)  # of one feed
DAY_S = 24 * 3600


def batch(feed_id: str, start_ms: int, frames: int, offset: int, seed: int) -> TokenBatch:
    """Frames one second apart, of one chunk."""
    random = np.random.default_rng(seed)
    return TokenBatch(
        feed_id=feed_id,
        at=SourceOffset(TOPIC, 0, offset),
        frame_ms=start_ms + 1000 * np.arange(frames, dtype=np.int64),
        frame_offset=np.full(frames, offset, np.int64),
        tokens=random.standard_normal((frames, TOKENS, WIDTH), dtype=np.float32).astype(np.float16),
        thumbnails=tuple(random.bytes(THUMBNAIL) for _ in range(frames)),
        token_space="benchmark",
    )


def at(template: TokenBatch, start_ms: int, offset: int) -> TokenBatch:
    """The same frames at another time."""
    frames = len(template.frame_ms)
    return TokenBatch(
        template.feed_id,
        SourceOffset(TOPIC, 0, offset),
        start_ms + 1000 * np.arange(frames, dtype=np.int64),
        np.full(frames, offset, np.int64),
        template.tokens,
        template.thumbnails,
        template.token_space,
    )


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


class Raw:
    """The baseline: files of record batches, and where it is."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._root = root
        self._files = 0
        self._schema = row_schema(Shape("benchmark", TOKENS, WIDTH))

    def append(self, batches: list[TokenBatch], next_offset: int) -> None:
        path = self._root / f"{self._files:010d}.arrow"
        self._files += 1
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            for one in batches:
                writer.write_batch(to_record_batch(self._schema, [one]))
        sync(path)
        sync(self._root)
        marks = {one.feed_id: [int(one.frame_ms[-1]), int(one.frame_offset[-1])] for one in batches}
        temporary = self._root / "position.tmp"
        temporary.write_text(json.dumps({"next_offset": next_offset, "feeds": marks}))
        sync(temporary)
        temporary.replace(self._root / "position.json")
        sync(self._root)


class Product:
    """The product, with the counting that its sender does."""

    def __init__(self, root: Path, files: Files | None = None) -> None:
        config = MemoryConfig(path=str(root), commit_ms=600_000)
        self.root = root
        self.frames = 0  # held when maintenance was last looked at
        self.shard = MemoryShard(config, TOPIC, [0], files=files)
        self._session = self.shard.rewind().session
        self._seq = 0

    def append(self, batches: list[TokenBatch], next_offset: int) -> None:
        self.shard.append(self._session, self._seq, batches, {0: next_offset})
        self._seq += 1
        self.shard.commit(0)

    def maintain(self) -> bool:
        return self.shard.maintain(0)


def batches() -> Iterator[tuple[list[TokenBatch], int]]:
    """A second of four feeds after the other. Made from few templates: drawing numbers is not what is measured."""
    templates = [[batch(f"cam-{feed}", 0, FRAMES, 0, 10 * i + feed) for feed in range(FEEDS)] for i in range(4)]
    offset = 0
    while True:
        start_ms = offset * FRAMES * 1000
        yield [at(one, start_ms, offset) for one in templates[offset % 4]], offset + 1
        offset += 1


def against_raw(root: Path) -> float:
    raw, product = Raw(root / "raw"), Product(root / "product")
    ratios, spent = [], []
    for (these, next_offset), turn in zip(batches(), range(ROUNDS), strict=False):
        took = {}
        for writer in (raw, product) if turn % 2 else (product, raw):
            start = time.perf_counter()
            writer.append(these, next_offset)
            took[writer] = time.perf_counter() - start
        if turn % 64 == 63:  # as a keeper does between appends; its cost is in append_flat
            while product.shard.maintain(0):
                pass
        if turn >= 20:
            ratios.append(took[raw] / took[product])
            spent.append((took[raw], took[product]))
    middle = [1000 * statistics.median(column) for column in zip(*spent, strict=True)]
    print(f"one batch of {FEEDS * FRAMES} frames, {FEEDS * FRAMES * (TOKENS * WIDTH * 2 + THUMBNAIL) / 1024:.0f} KiB: "
          f"raw Arrow IPC {middle[0]:.2f} ms, MemoryShard {middle[1]:.2f} ms (medians)")  # fmt: skip
    return statistics.median(ratios)


class Unsafe(Files):
    """Files that are not flushed: a day is written in seconds."""

    def _flush(self, descriptor: int) -> None:
        pass

    def _sync(self, path: str) -> None:
        pass


def fill_a_day(root: Path, template: TokenBatch) -> int:
    """24 h of one feed, written and merged by the product as if live; returns the number of commits."""
    product = Product(root, Unsafe(str(root)))
    commits = DAY_S // len(template.frame_ms)
    for i in range(commits):
        product.append([at(template, i * 1000 * len(template.frame_ms), i)], i + 1)
        product.maintain()
    return commits


def flat(root: Path) -> float:
    """Amortised cost of a commit in a full memory over that in an empty one.

    A commit may be followed by a merge, of one of a few sizes, or by old files being forgotten. What each kind of step
    costs is its median, so that a busy machine does not decide. How often it comes is what it handles over what a
    commit brings, so that it does not matter which of them fell into this run.
    """
    template = batch("cam-0", 0, FRAMES, 0, 2)
    start = fill_a_day(root / "full", template)
    os.sync()
    memories = {"full": (Product(root / "full"), start), "empty": (Product(root / "empty"), 0)}
    held = memories["full"][0].shard.stat()
    print(f"24 h memory: {held.feeds[0].frames} frames, {held.partitions[0].bytes / 1e6:.0f} MB, "
          f"{held.partitions[0].files} files")  # fmt: skip
    steps: dict[str, dict[str, list[tuple[float, float]]]] = {"full": {}, "empty": {}}
    for i in range(FLAT_ROUNDS):
        for name in ("full", "empty") if i % 2 else ("empty", "full"):
            product, first = memories[name]
            one = at(template, (first + i) * 1000 * FRAMES, first + i)
            begin = time.perf_counter()
            product.append([one], first + i + 1)
            appended = time.perf_counter()
            merged = product.maintain()
            done = time.perf_counter()
            steps[name].setdefault("append and commit", []).append((appended - begin, 1.0))
            kind, size = handled(product) if merged else ("nothing to do", COMMIT_BYTES)
            steps[name].setdefault(kind, []).append((done - appended, COMMIT_BYTES / size))
    costs = {}
    for name, kinds in steps.items():
        costs[name] = 0.0
        print(f"{name}:")
        for kind, taken in sorted(kinds.items()):
            middle, often = statistics.median(t for t, _ in taken), statistics.fmean(share for _, share in taken)
            costs[name] += middle * often
            print(f"  {kind:28s} {1000 * middle:8.3f} ms, once in {1 / often:4.0f} commits (seen {len(taken)} times)")
        print(f"  together                     {1000 * costs[name]:8.3f} ms a commit")
    return costs["full"] / costs["empty"]


def handled(product: Product) -> tuple[str, float]:
    """What the last step of maintenance did, and how many bytes it handled."""
    held = product.shard.stat()
    before, product.frames = product.frames, held.feeds[0].frames
    if product.frames < before:
        return "forgetting", (before - product.frames) * (TOKENS * WIDTH * 2 + THUMBNAIL)
    newest = max((product.root / TOPIC / "p-00000").glob("rows-*"), key=lambda path: path.name)
    size = newest.stat().st_size
    return f"merging into 2^{round(math.log2(size))} bytes", size


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="append-") as directory:
        root = Path(directory)
        flatness = flat(root)
        ratio = against_raw(root)
    flat_ok, fast_ok = flatness <= 1.1, ratio >= 0.8
    print(f"append_flat {flatness:.3f} target <=1.10 {'ok' if flat_ok else 'short'}")
    print(f"append {ratio:.3f} target >=0.80 {'ok' if fast_ok else 'short'}")
    return 0 if flat_ok and fast_ok else 1


if __name__ == "__main__":
    sys.exit(main())
