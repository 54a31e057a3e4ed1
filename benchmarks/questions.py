"""Questions on what is cached already, against the same questions with everything run again.

All at the 2B proportions at reduced width (`benchmarks/models.py`), float32, same threads, in turns; medians.

`question_64`: one question of 50 rows of text (27 that every question shares, 20 that ask, the answer's header) on a
cached segment of 64 frames, scores of the whole segment and the logits of the verdict, against one plain pass over
[prefix | frames | text] that gives the same (`benchmarks/uncached.py`): no wasted layer, no mask.

`question_576`: the same on a cached pass of 576 frames, scores of `segments_8_4` only, against the pass as the
reference makes it, which is what spec §14 counts 196 times fewer FLOP against: the frames again, and for every window
and scored layer a short sequence of its own through that layer, whose MLP is then discarded. Its windows are timed at
one layer of each length and counted for all scored layers. `question_576_plain` is the same against the plain pass of
`question_64`, which reuses its own queries and keys for all windows; it has no target, since only 80 times fewer FLOP
are to be saved there.

`question_vision`: question_64 against the plain pass with what a system without memory pays too: vision, token merging
and projector of the 64 frames, timed on one clip of 4 and counted 16 times.

`questions_16`: 16 questions together on the cached segment, in times of one. `question_next`: what each of them adds to
the first, as a share of compressing the segment's frames (vision, merging, projector, LP-Comp clip by clip).

`products_64` and `products_16` have no target: the ratios that question_64 and questions_16 would have if there were
nothing but the matrix products of the decoder's layers, in a bare loop. Both are limits of the machine: fifty rows read
every weight for little arithmetic, and sixteen questions are 395 rows, 7.9 times as many as one.

    python -m benchmarks.questions
"""

import os
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.lpcomp import by_clips, rows_by_layer
from benchmarks.matmuls import Product, bare_loop, in_turns
from benchmarks.models import PREFIX, PUBLISHED, model, prefill_calls, rows, schedule, verdict
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
            "lpcomp": lambda: by_clips(decoder, one.cache.prefix, video, CLIP),
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
    short = ShortSequences(decoder, WINDOWS, to_the_end=True)
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


@torch.inference_mode()
def of_products(decoder: Decoder) -> dict[str, float]:
    """Median seconds of the bare products of the plain pass, of one question and of sixteen."""
    passed = [count + TEXT for count in rows_by_layer(schedule(), SEGMENT)]
    counts = {"plain": passed, "one": [TEXT] * len(passed), "sixteen": [SHARED + 16 * (TEXT - SHARED)] * len(passed)}
    dtype = decoder.embed_tokens.weight.dtype
    products = {
        name: [call for call in prefill_calls(decoder.config, rows_of) if isinstance(call, Product)]
        for name, rows_of in counts.items()
    }
    return _medians({name: bare_loop(calls, dtype) for name, calls in products.items()}, 5)


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
    products = _told(f"{SEGMENT} frames, products alone", of_products(decoder))
    print(f"products_64 {products['plain'] / products['one']:.2f}: has no target")
    print(f"products_16 {products['sixteen'] / products['one']:.2f}: has no target")
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
