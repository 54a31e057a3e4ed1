"""Questions on what is cached already, against the same questions with everything run again.

All at the 2B proportions at reduced width (`benchmarks/models.py`), float32, same threads, in turns; medians.

`question_64`: one question of 50 rows of text (27 that every question shares, 20 that ask, the answer's header) on a
cached segment of 64 frames, scores of the whole segment and the logits of the verdict, against one plain pass over
[prefix | frames | text] that gives the same (`benchmarks/uncached.py`): no wasted layer, no mask.

`question_576`: the same on a cached pass of 576 frames, scores of `segments_8_4` only, against the pass as the
reference makes it: the frames again, and for every window and scored layer a short sequence of its own. Its windows are
timed at one layer of each length and counted for all scored layers; the layers' MLPs, which the reference runs for them
and discards, are left out. `question_576_plain` is the same against the plain pass of `question_64`, which reuses its
own queries and keys for all windows; it has no target, since only 80 times fewer FLOP are to be saved there.

`question_vision`: question_64 against the plain pass with what a system without memory pays too: vision, token merging
and projector of the 64 frames, timed on one clip of 4 and counted 16 times.

`questions_16`: 16 questions together on the cached segment, in times of one. `question_next`: what each of them adds to
the first, as a share of compressing the segment's frames (vision, merging, projector, LP-Comp clip by clip).

    python -m benchmarks.questions
"""

import os
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.lpcomp import by_clips
from benchmarks.matmuls import in_turns
from benchmarks.models import PREFIX, PUBLISHED, model, rows, schedule, verdict
from benchmarks.uncached import ShortSequences, Uncached
from standwatch.compression.asking import Inquiry, ask
from standwatch.compression.frame_selection import relevant_layers
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.qcomp import QueryRows, ScoreType

WIDTH = 384
SEGMENT, PASS, CLIP = 64, 576, 4
SHARED, TEXT = 27, 50
ROWS = QueryRows(SHARED, TEXT - 3)
LAYERS = relevant_layers(PUBLISHED.language.layers)
WHOLE, WINDOWS = ScoreType.parse("default"), ScoreType.parse("segments_8_4")


def inquiry(decoder: Decoder, video: Tensor, questions: int = 1) -> Inquiry:
    """Questions of 50 rows about a video that is in the cache."""
    cache = decoder.prefill(schedule(), rows(decoder, PREFIX), video)
    own = tuple(rows(decoder, TEXT - SHARED) for _ in range(questions))
    return Inquiry(cache, rows(decoder, SHARED), own, (ROWS,) * questions)


@torch.inference_mode()
def on_a_segment(decoder: Decoder) -> dict[str, float]:
    """Median seconds: plain pass, one question, sixteen, and LP-Comp of the segment clip by clip."""
    video = rows(decoder, SEGMENT, PUBLISHED.tokens_per_frame)
    one, many = inquiry(decoder, video), inquiry(decoder, video, 16)
    plain = Uncached(decoder, LAYERS, WHOLE, only_scores=False)
    return _medians(
        {
            "plain": lambda: plain(one.cache.prefix, video, one.text, ROWS),
            "one": lambda: ask(decoder, [one], LAYERS, WHOLE),
            "sixteen": lambda: ask(decoder, [many], LAYERS, WHOLE),
            "lpcomp": lambda: by_clips(decoder, one.cache.prefix, video),
        },
        5,
    )


@torch.inference_mode()
def on_a_pass(decoder: Decoder) -> dict[str, float]:
    """Median seconds: plain pass, one question, and the reference's short sequences of all scored layers."""
    video = rows(decoder, PASS, PUBLISHED.tokens_per_frame)
    one = inquiry(decoder, video)
    plain = Uncached(decoder, LAYERS, WINDOWS, only_scores=True)
    spent = _medians(
        {
            "plain": lambda: plain(one.cache.prefix, video, one.text, ROWS),
            "one": lambda: ask(decoder, [one], LAYERS, WINDOWS, only_scores=True),
        },
        2,
    )
    short = ShortSequences(decoder, WINDOWS, to_the_end=False)
    scored = [schedule().tokens_by_layer[layer] for layer in LAYERS]
    by_length = {
        n: _medians(
            {"short": lambda n=n: short(decoder.stack[0], one.cache.prefix, video[:, :n], one.text[:-3], ROWS)}, 1
        )
        for n in dict.fromkeys(scored)
    }
    return spent | {"short": sum(by_length[n]["short"] for n in scored)}


@torch.inference_mode()
def seeing() -> float:
    """Median seconds of vision, merging and projector for the frames of a segment."""
    whole = model(WIDTH)
    side = whole.config.vision.image_px
    clip = torch.randn(1, CLIP, 3, side, side)
    return _medians({"clip": lambda: whole.compress(clip)}, 2)["clip"] * SEGMENT / CLIP


def _medians(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    return {name: statistics.median(seconds) for name, seconds in in_turns(works, rounds).items()}


def _told(what: str, spent: dict[str, float]) -> dict[str, float]:
    print(f"{what}: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in spent.items()), flush=True)
    return spent


def main() -> int:
    """Print what was measured; 1 when a figure is short of its target."""
    torch.set_num_threads(os.cpu_count() or 1)
    decoder = model(WIDTH).decoder
    segment = _told(f"{SEGMENT} frames", on_a_segment(decoder))
    vision = _told(f"seeing {SEGMENT} frames", {"vision": seeing()})["vision"]
    whole_pass = _told(f"{PASS} frames", on_a_pass(decoder))
    print(f"question_576_plain {whole_pass['plain'] / whole_pass['one']:.1f}: has no target")
    good = [
        verdict("question_64", segment["plain"] / segment["one"], 8, at_least=True),
        verdict("question_576", (whole_pass["plain"] + whole_pass["short"]) / whole_pass["one"], 50, at_least=True),
        verdict("question_vision", (segment["plain"] + vision) / segment["one"], 100, at_least=True),
        verdict("questions_16", segment["sixteen"] / segment["one"], 3, at_least=False),
        verdict(
            "question_next",
            (segment["sixteen"] - segment["one"]) / 15 / (vision + segment["lpcomp"]),
            0.05,
            at_least=False,
            digits=4,
        ),
    ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
