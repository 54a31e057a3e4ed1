"""Chunks through our decode and sampling against one `ffmpeg -f null` with the same filter on the whole file.

Both decode with one thread, in one ffmpeg process at a time. The limit is what ffmpeg does when nobody takes the
pictures and nothing has to be cut into chunks. Rounds are interleaved and the median of their ratios counts, so that
another program's load falls on both sides.

    python -m benchmarks.decode
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from standwatch.configs.schema import DecodeConfig
from standwatch.pipeline.cutting import cut
from standwatch.pipeline.decode import ChunkDecoder, Decoded
from standwatch.pipeline.ffmpeg import find_ffmpeg
from standwatch.pipeline.types import Chunk

FOOTAGE = Path(__file__).resolve().parents[1] / "standwatch" / "footage"
VIDEOS = ("bottle-detection.mp4", "one-by-one-person-detection.mp4")
TARGET = 0.9
ROUNDS = 15
START_MS = 1_790_000_000_000


def measure(footage: Path = FOOTAGE) -> dict[str, float]:
    """Median ratio of frames/s, ours to ffmpeg's, for each video and size of a run."""
    ratios: dict[str, float] = {}
    for name in VIDEOS:
        video = footage / name
        chunks = list(cut(str(video), "camera-0", START_MS))
        for batch in dict.fromkeys((DecodeConfig().batch_chunks, 1)):
            config = DecodeConfig(batch_chunks=batch, parallel=1)
            rounds = ROUNDS if batch > 1 else 3
            ratios[f"{name}, {len(chunks)} chunks in runs of {batch}"] = _ratio(video, chunks, config, rounds)
    return ratios


def _ratio(video: Path, chunks: Sequence[Chunk], config: DecodeConfig, rounds: int) -> float:
    decoder = ChunkDecoder(config)
    found = []
    try:
        for _ in range(rounds):
            limit_s = _seconds(lambda: _whole_file(video, config))
            ours_s = _seconds(lambda: _chunks(decoder, chunks))
            found.append(limit_s / ours_s)
    finally:
        decoder.close()
    return statistics.median(found)


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _chunks(decoder: ChunkDecoder, chunks: Sequence[Chunk]) -> None:
    (outcomes,) = decoder.decode([chunks])
    assert all(isinstance(outcome, Decoded) for outcome in outcomes), "the footage is sound"


def _whole_file(video: Path, config: DecodeConfig) -> None:
    slot = f"floor({{}}*{config.sample_fps}/1000000)"
    choice = f"isnan(prev_selected_pts)+gt({slot.format('pts')},{slot.format('prev_selected_pts')})"
    side = config.max_side_px
    size = [f"max(1,round({a}*min(1,{side}/max(iw,ih))))" for a in ("iw", "ih")]
    filters = f"settb=1/1000000,select='{choice}',scale=w='{size[0]}':h='{size[1]}':flags=bicubic,format=rgb24"
    one_thread = ["-filter_threads", "1", "-threads", "1"]
    output = ["-map", "0:V:0", "-vf", filters, "-fps_mode", "passthrough", "-f", "null", "-"]
    subprocess.run(
        [find_ffmpeg(), "-hide_banner", "-nostdin", "-v", "error", *one_thread, "-i", str(video), *output],
        check=True,
    )


def main() -> int:
    """Print what was measured; 1 when it is short of the target."""
    ratios = measure()
    for what, ratio in ratios.items():
        print(f"{what}: {ratio:.2f} of ffmpeg's frames/s")
    value = min(ratio for what, ratio in ratios.items() if not what.endswith("runs of 1"))
    print(f"decode {value:.2f} target {TARGET} {'ok' if value >= TARGET else 'short'}")
    return 0 if value >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
