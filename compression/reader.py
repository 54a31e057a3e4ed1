"""Decides what a window of memory says to a question: relevance per frame, yes or no, words (spec §8-§10)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from standwatch.compression.compressor import Float16Array
from standwatch.compression.frame_sampling import GROUP
from standwatch.compression.frame_selection import (
    LEAST_FRAMES,
    Float64Array,
    Int64Array,
    best_frames,
    relevant_layers,
    score_frames,
)
from standwatch.compression.generation import generate
from standwatch.compression.lpcomp import DecoderCache
from standwatch.compression.prompt import Prompt, build_prompt
from standwatch.compression.qcomp import ClipScorer, QueryRows, ScoreType
from standwatch.compression.tokenizer import TextTokenizer
from standwatch.compression.xcomp import XComp

Float32Array: TypeAlias = npt.NDArray[np.float32]

YES = ("yes", "Yes")
NO = ("no", "No")
WHOLE = ScoreType.parse("default")
SEGMENTS = ScoreType.parse("segments_8_4")
DUPLICATE = 2  # pass starts stay multiples of 4 frames


@dataclass(frozen=True, eq=False)
class QuestionReading:
    """One question against one window: relevance float32 [F], and the model's probability of "yes" and of "no"."""

    relevance: Float32Array
    yes: float
    no: float


class WrittenAnswer(NamedTuple):
    text: str
    prompt_tokens: int
    generated_tokens: int


class Reader:
    """Reads questions against frame tokens, float16 [F, n, D], as the compressor made them.

    Raises ValueError if the tokenizer's ids do not fit the model's vocabulary, or if "yes" and "no" start alike.
    """

    def __init__(self, model: XComp, tokenizer: TextTokenizer) -> None:
        vocab = model.config.language.vocab
        if tokenizer.vocab_size > vocab:
            raise ValueError(f"vocab: {vocab} is too small for the tokenizer, which has {tokenizer.vocab_size} ids")
        self._decoder = model.decoder
        self._shape = (model.config.tokens_per_frame, model.config.language.width)
        self._tokenizer = tokenizer
        self._layers = relevant_layers(model.config.language.layers)
        self._yes_ids = sorted({tokenizer.encode(word)[0] for word in YES})
        self._no_ids = sorted({tokenizer.encode(word)[0] for word in NO})
        if set(self._yes_ids) & set(self._no_ids):
            raise ValueError("the tokenizer starts 'yes' and 'no' with the same token: verdicts cannot be told apart")

    @torch.inference_mode()
    def read(self, tokens: Float16Array, questions: Sequence[str], duration_s: float) -> list[QuestionReading]:
        """Relevance and verdict of every question on the window, in the order of `questions`.

        The frames, and the words all prompts begin with, run once; each question costs only its own words.
        """
        if isinstance(questions, str):
            raise TypeError("questions: must be a sequence of questions, not one string; write [question]")
        video = self._video(tokens)
        prompts = [build_prompt(self._tokenizer, q, _checked(duration_s), len(video)) for q in questions]
        if not prompts:
            return []
        shared = _shared_rows(prompts)
        cache = self._prefill(prompts[0], video, max(len(prompt.text_ids) for prompt in prompts))
        if shared:
            self._extend(cache, prompts[0].text_ids[:shared])
        mark = cache.lengths
        readings = []
        for prompt in prompts:
            scorer = self._scorer(cache, prompt.rows, WHOLE)
            last = self._decoder.extend(cache, self._embed(prompt.text_ids[shared:]), scorer)[-1:]
            readings.append(self._reading(scorer, self._decoder.logits(last)[0], len(video)))
            cache.rewind(mark)
        return readings

    @torch.inference_mode()
    def select(self, tokens: Float16Array, question: str, duration_s: float, keep: int) -> Int64Array:
        """The `keep` most relevant frames of the window in time order; several passes from 1024 frames on (spec §9)."""
        video = self._video(tokens)
        if len(video) < LEAST_FRAMES:
            return best_frames(self.read(tokens, [question], duration_s)[0].relevance, keep)
        prompt = build_prompt(self._tokenizer, question, _checked(duration_s), len(video))

        def score_pass(numbers: Int64Array) -> Float64Array:
            cache = self._prefill(prompt, video[torch.from_numpy(numbers)], len(prompt.text_ids))
            scorer = self._scorer(cache, prompt.rows, SEGMENTS)
            self._decoder.extend(cache, self._embed(prompt.text_ids), scorer)
            return self._stacked(scorer).double().cpu().numpy()

        return best_frames(score_frames(score_pass, len(video), DUPLICATE, SEGMENTS), keep)

    @torch.inference_mode()
    def answer(
        self,
        tokens: Float16Array,
        question: str,
        duration_s: float,
        frame_count: int,
        max_tokens: int,
        repetition_penalty: float,
    ) -> WrittenAnswer:
        """Write an answer from selected frames; the prompt names all `frame_count` they were selected from (spec §10).

        Counts do not include the token that ended the answer.
        """
        video = self._video(tokens)
        if frame_count < len(video):
            raise ValueError(f"frame_count: {frame_count} frames cannot have given the {len(video)} selected ones")
        prompt = build_prompt(self._tokenizer, question, _checked(duration_s), frame_count)
        cache = self._prefill(prompt, video, len(prompt.text_ids) + max_tokens)

        def next_logits(*ids: int) -> Tensor:
            return self._decoder.logits(self._extend(cache, ids)[-1:])[0]

        written = generate(
            next_logits(*prompt.text_ids),
            next_logits,
            max_tokens=max_tokens,
            repetition_penalty=repetition_penalty,
            stop_ids=(self._tokenizer.im_end_id,),
        )
        prompt_tokens = len(prompt.prefix_ids) + video.shape[0] * video.shape[1] + len(prompt.text_ids)
        return WrittenAnswer(self._tokenizer.decode(written), prompt_tokens, len(written))

    def _video(self, tokens: Float16Array) -> Tensor:
        if not isinstance(tokens, np.ndarray) or tokens.dtype != np.float16:
            kind = getattr(tokens, "dtype", type(tokens).__name__)
            raise ValueError(f"tokens: must be float16 [F, n, D], got {kind}")
        if tokens.ndim != 3 or tokens.shape[1:] != self._shape or len(tokens) == 0:
            wanted = ", ".join(str(size) for size in self._shape)
            raise ValueError(f"tokens: must be [F, {wanted}] with F of at least 1, got shape {list(tokens.shape)}")
        if not np.isfinite(tokens).all():
            raise ValueError("tokens: NaN or infinity among them; the memory row is damaged, leave it out")
        weight = self._decoder.embed_tokens.weight
        return torch.tensor(tokens).to(weight)  # a copy: memory rows are read-only maps

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self._decoder.embed(list(ids))

    def _prefill(self, prompt: Prompt, video: Tensor, room: int) -> DecoderCache:
        return self._decoder.prefill(self._embed(prompt.prefix_ids), video, room)[1]

    def _extend(self, cache: DecoderCache, ids: Sequence[int]) -> Tensor:
        return self._decoder.extend(cache, self._embed(ids))

    def _scorer(self, cache: DecoderCache, rows: QueryRows, score_type: ScoreType) -> ClipScorer:
        return ClipScorer(self._decoder.config, cache.layout, rows, score_type, self._layers)

    def _stacked(self, scorer: ClipScorer) -> Tensor:
        return torch.stack([scorer.scores[layer] for layer in self._layers])  # [layers, clips]

    def _reading(self, scorer: ClipScorer, logits: Tensor, frames: int) -> QuestionReading:
        by_clip = self._stacked(scorer).sum(0)
        relevance: Float32Array = by_clip.repeat_interleave(GROUP)[:frames].float().cpu().numpy()
        probability = logits.softmax(-1)
        return QuestionReading(
            relevance, float(probability[self._yes_ids].sum()), float(probability[self._no_ids].sum())
        )


def _shared_rows(prompts: list[Prompt]) -> int:
    """How many text tokens all prompts begin with, short of every question's rows."""
    limit = min(prompt.rows.start for prompt in prompts)
    for row in range(limit):
        if len({prompt.text_ids[row] for prompt in prompts}) > 1:
            return row
    return limit


def _checked(duration_s: float) -> float:
    if not math.isfinite(duration_s) or duration_s < 0:
        raise ValueError(f"duration_s: {duration_s} must be a finite number of seconds, 0 or more")
    return duration_s
