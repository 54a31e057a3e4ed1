"""Decides what one step of supervised compression tuning computes: a loss and its gradients (spec §11).

The forward is one causal pass over [prefix | video | text], with LP-Comp's drops before the same layers as in reading
and autograd through all of it. Many samples go through as one batch of rows although each has its own length, and a
video may have several texts, which do not see each other: its rows run once for all of them.

Nothing here needs torch.compile; this is what it does. A layer's halves, `DecoderLayer.project` and `finish`, compile
without a break and with `dynamic=True` once for all layers and lengths, for training, appending and asking alike. Where
a CPU's matrix products are quick (AMX) that takes a quarter or more off a training step (`benchmarks.training_speed
--compile`); it gains none of appending, whose time is in the products. `forward` compiles as a whole too, but anew for
every combination of lengths, which only pays where those repeat. `Decoder.append` as a whole says the same compiled,
but is compiled anew for each length of a cache, until PyTorch gives up and runs it as it stands.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate as accumulated
from itertools import islice
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from standwatch.compression.attention import Sight, attend_learning, rounded
from standwatch.compression.decoder import DecoderLayer
from standwatch.compression.labels import IGNORED, Layout, Sample
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.padding import Rectangle
from standwatch.compression.schedule import Schedule
from standwatch.compression.xcomp import XComp

LONG_VIDEO = 512  # frames from which on the projector does not learn
_CLIPS_TOGETHER = 8  # through the vision tower


@dataclass(frozen=True)
class Recipe:
    """How the published model was tuned: AdamW without weight decay, one epoch of 2247 steps."""

    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warm_up: float = 0.03  # of all steps
    clip_norm: float = 1.0
    samples_per_step: int = 32

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step 0..steps-1: up a straight line from 0, then down half a cosine towards 0."""
        if not 0 <= step < steps:
            raise ValueError(f"step: {step} is not within 0..{steps - 1}")
        warm_up = math.ceil(self.warm_up * steps)
        if step < warm_up:
            return self.learning_rate * step / warm_up
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


@dataclass(frozen=True, eq=False, slots=True)
class Heard:
    """What a layer is given, rows [R, D], with their queries [H, R, hd] and keys [Hkv, R, hd], at their angles."""

    layer: int
    rows: Tensor
    queries: Tensor
    keys: Tensor


Hear: TypeAlias = Callable[[Heard], None]


def forward(
    decoder: Decoder,
    schedule: Schedule,
    layouts: Sequence[Layout],
    rows: Tensor,
    *,
    checkpointing: bool = False,
    hear: Sequence[Hear] = (),
) -> Tensor:
    """Embedded rows [R, D] of some samples, one after the other, to the states, normed, of those that are left.

    The last layer is the schedule's, which may end before the decoder's.

    With `checkpointing` only each layer's input is kept, and the layer runs again for its gradients; then nobody can
    `hear` them.
    """
    stage: _Stage | None = None
    for index, layer in enumerate(decoder.stack[: schedule.layers]):
        n = schedule.tokens_by_layer[index]
        if index in schedule.drop_steps:
            rows = _dropped(rows, layouts, schedule, index)
        if stage is None or stage.n != n:
            stage = _Stage(decoder, layouts, n, rows)
            rows = stage.padded(rows)
        if checkpointing:
            rows = checkpoint(stage.run, index, layer, rows, use_reentrant=False, preserve_rng_state=False)
        else:
            rows = stage.run(index, layer, rows, hear)
    count = sum(layout.rows(schedule.tokens_by_layer[-1]) for layout in layouts)
    states: Tensor = decoder.norm(rows[:count])
    return states


def mean_loss(
    decoder: Decoder,
    schedule: Schedule,
    samples: Sequence[Sample],
    *,
    checkpointing: bool = False,
    hear: Sequence[Hear] = (),
) -> Tensor:
    """The mean of the samples' losses; a sample's is the mean cross entropy over the labels of its prefix and texts.

    Labels are counted after compression; words that texts begin with count for each of them although they run once.
    Raises ValueError for a video or schedule of another shape, NaN or infinite tokens, ids or labels outside the
    vocabulary, a sample without labels, and one that needs more positions than the model has.
    """
    _check(decoder, schedule, samples)
    layouts = [sample.layout for sample in samples]
    states = forward(decoder, schedule, layouts, _embedded(decoder, samples), checkpointing=checkpointing, hear=hear)
    rows, labels, weights = [], [], []
    n, start = schedule.tokens_by_layer[-1], 0
    for sample, layout in zip(samples, layouts, strict=True):
        targets = sample.targets(n)
        count = sum(times for _, _, times in targets)
        rows += [start + row for row, _, _ in targets]
        labels += [label for _, label, _ in targets]
        weights += [times / count / len(samples) for _, _, times in targets]
        start += layout.rows(n)
    logits = decoder.logits(states.index_select(0, torch.tensor(rows, device=states.device)))
    losses = F.cross_entropy(logits, torch.tensor(labels, device=logits.device), reduction="none")
    return losses @ torch.tensor(weights, device=losses.device)


@torch.no_grad()
def answered(decoder: Decoder, schedule: Schedule, sample: Sample) -> list[bool]:
    """For each text of a sample whether the model would write all its labels, each likeliest after those before it.

    Raises ValueError for what `mean_loss` does.
    """
    _check(decoder, schedule, [sample])
    n, layout = schedule.tokens_by_layer[-1], sample.layout
    targets = sample.targets(n)
    states = forward(decoder, schedule, [layout], _embedded(decoder, [sample]))
    likeliest = decoder.logits(states[[row for row, _, _ in targets]]).argmax(-1).tolist()
    ends = list(accumulated(layout.own, initial=layout.trunk(n)))[1:]  # of each text's own rows
    right = [True] * len(sample.texts)
    for (row, label, times), word in zip(targets, likeliest, strict=True):
        if word != label:
            for text in range(len(right)) if times == len(right) else [bisect_right(ends, row)]:
                right[text] = False
    return right


def accumulate(
    decoder: Decoder,
    schedule: Schedule,
    samples: Iterable[Sample],
    count: int,
    together: int,
    *,
    checkpointing: bool = False,
) -> float:
    """Add the gradients of the mean loss of `count` samples to those of the weights, and return that loss.

    Samples are taken `together` at a time, as they are needed, and one such batch's graph is gone before the next is
    begun. Raises ValueError for what `mean_loss` does, and unless `count` samples come; drop the gradients then.
    """
    if together < 1 or count < 1:
        raise ValueError(f"together: {together} of {count} samples; both must be at least 1")
    left, taken = iter(samples), 0
    total = torch.zeros(())
    while taken <= count and (batch := list(islice(left, together))):
        taken += len(batch)
        if taken <= count:
            loss = mean_loss(decoder, schedule, batch, checkpointing=checkpointing) * (len(batch) / count)
            torch.autograd.backward(loss)
            total = total + loss.detach().cpu()
    if taken != count:
        raise ValueError(f"count: {count} samples were announced, {taken} or more came")
    return float(total)


def set_trainable(model: XComp) -> list[nn.Parameter]:
    """Freeze vision, let all else learn: language model with embeddings and norms, projector, readout. What learns."""
    model.requires_grad_(True)
    model.vision.requires_grad_(False)
    return [weight for weight in model.parameters() if weight.requires_grad]


def video_tokens(model: XComp, clips: Tensor) -> Tensor:
    """Pixels of one video's clips [B, T, 3, S, S] -> its tokens [B*T, n, D], as a sample wants them.

    Only the projector learns from them, once vision is frozen, and from LONG_VIDEO frames on nothing does.
    """
    frames = clips.shape[0] * clips.shape[1]
    with torch.set_grad_enabled(torch.is_grad_enabled() and frames < LONG_VIDEO):
        return torch.cat([model.compress(part).flatten(0, 1) for part in torch.split(clips, _CLIPS_TOGETHER)])


class _Stage:
    """The layers that see n tokens per frame: where every row stands there, and what it sees."""

    def __init__(self, decoder: Decoder, layouts: Sequence[Layout], n: int, like: Tensor) -> None:
        self.n = n
        self._count = sum(layout.rows(n) for layout in layouts)
        on_cpu = like.device.type == "cpu"
        self._padding = rounded(self._count) - self._count if on_cpu else 0
        spans = [span for layout in layouts for span in layout.spans(n)]
        self._cos, self._sin = decoder.rotary.at([*spans, (0, self._padding)] if self._padding else spans, like)
        self._rows: Rectangle | _EachSample = (_EachSample if on_cpu else Rectangle)(layouts, n, like)

    def padded(self, rows: Tensor) -> Tensor:
        """Rows that nobody sees come behind these."""
        return F.pad(rows, (0, 0, 0, self._padding))

    def run(self, index: int, layer: DecoderLayer, rows: Tensor, hear: Sequence[Hear] = ()) -> Tensor:
        queries, keys, values = (part[:, : self._count] for part in layer.project(rows, self._cos, self._sin))
        for listener in hear:
            listener(Heard(index, rows[: self._count], queries, keys))
        attended = self._rows.attend(queries, keys, values)
        return layer.finish(rows, F.pad(attended, (0, 0, 0, self._padding)))


class _EachSample:
    """The same as a `Rectangle` without padding, a call for each sample's trunk and texts, as suits a CPU."""

    def __init__(self, layouts: Sequence[Layout], n: int, like: Tensor) -> None:
        self._counts = [layout.rows(n) for layout in layouts]
        self._trunks = [layout.trunk(n) for layout in layouts]
        self._seen = [layout.seen(n, like.device) if layout.own else None for layout in layouts]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        of_each = (torch.split(part, self._counts, 1) for part in (queries, keys, values))
        sights = []
        for trunk, seen, asking, own_keys, own_values in zip(self._trunks, self._seen, *of_each, strict=True):
            sights.append(Sight(asking[:, :trunk], own_keys[:, :trunk], own_values[:, :trunk]))
            if seen is not None:
                sights.append(Sight(asking[:, trunk:], own_keys, own_values, seen))
        return torch.cat(attend_learning(sights), 1)


def _embedded(decoder: Decoder, samples: Sequence[Sample]) -> Tensor:
    """The samples' rows [R, D]: prefix, video and texts of each. All words are looked up at once."""
    words = decoder.embed([token for sample in samples for token in sample.ids])
    parts, start = [], 0
    for sample in samples:
        before, end = start + len(sample.prefix.ids), start + len(sample.ids)
        parts += [words[start:before], sample.video.flatten(0, 1).to(words.dtype), words[before:end]]
        start = end
    return torch.cat(parts)


def _dropped(rows: Tensor, layouts: Sequence[Layout], schedule: Schedule, layer: int) -> Tensor:
    """The rows that this layer still sees: all words, and of every frame the survivors."""
    n, places = schedule.tokens_by_layer[layer - 1], torch.tensor(schedule.survivors(layer))
    kept, start = [], 0
    for layout in layouts:
        video = start + layout.prefix
        end = start + layout.rows(n)
        words = video + layout.frames * n
        frames = torch.arange(video, words, n)[:, None] + places
        kept += [torch.arange(start, video), frames.flatten(), torch.arange(words, end)]
        start = end
    return rows.index_select(0, torch.cat(kept).to(rows.device))


def _check(decoder: Decoder, schedule: Schedule, samples: Sequence[Sample]) -> None:
    config = decoder.config
    if not samples:
        raise ValueError("samples: there is none")
    if schedule.layers != config.layers:
        raise ValueError(f"schedule: is of {schedule.layers} layers, this decoder has {config.layers}")
    wanted = schedule.tokens_per_frame, config.width
    for sample in samples:
        shape = sample.video.shape
        if len(shape) != 3 or shape[1:] != wanted or not shape[0]:
            raise ValueError(
                f"video: must be [F, {wanted[0]}, {wanted[1]}] with F of at least 1, the schedule starts at "
                f"{wanted[0]} tokens per frame; got {list(shape)}"
            )
        if not sample.video.isfinite().all():
            raise ValueError("video: it contains NaN or infinite tokens; check what made them")
        labels = [label for _, label, _ in sample.targets(schedule.tokens_by_layer[-1])]
        if not labels:
            raise ValueError("labels: the sample has none behind its first word, so it has no loss; leave it out")
        if not 0 <= min(labels) <= max(labels) < config.vocab:
            raise ValueError(
                f"labels: must be {IGNORED} or within 0..{config.vocab - 1}, got {min(labels)}..{max(labels)}"
            )
        needed = max(first + count for first, count in sample.layout.spans(schedule.tokens_by_layer[0]))
        if needed > config.positions:
            raise ValueError(
                f"video: with its words it needs {needed} positions, the model was made for {config.positions}; "
                f"take fewer than {len(sample.video)} frames"
            )
