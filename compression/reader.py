"""Decides what a window of memory says to a question: relevance per frame, yes or no, words (spec §8-§10, §14)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from standwatch.compression.asking import Heard, Inquiry, ask
from standwatch.compression.compressor import Float16Array
from standwatch.compression.frame_selection import (
    LEAST_FRAMES,
    Float64Array,
    Int64Array,
    best_frames,
    relevant_layers,
    score_frames,
)
from standwatch.compression.generation import generate
from standwatch.compression.prompt import Prompt, build_prompt, prefix_ids
from standwatch.compression.qcomp import ScoreType, clip_of
from standwatch.compression.questions import QuestionReading, Questions, View, WrittenAnswer
from standwatch.compression.tokenizer import TextTokenizer
from standwatch.compression.xcomp import XComp

YES = ("yes", "Yes")
NO = ("no", "No")
UNCLEAR = ("unclear", "Unclear")
WHOLE = ScoreType.parse("default")
SEGMENTS = ScoreType.parse("segments_8_4")
DUPLICATE = 2  # pass starts stay multiples of 4 frames
FOR_WORDS = 512  # positions of a sequence that are kept for its words
QUESTIONS_TOGETHER = 32  # of one video in one pass: every question's rows are compared with all others' to be hidden
_LEAST_WEIGHT = 1e-6  # of a view that is sure of its no: its frames still have an order


class Reader:
    """Reads questions against frames in memory, as the compressor made their tokens.

    Raises ValueError if the tokenizer's ids do not fit the model's vocabulary, or if verdicts start alike.
    """

    def __init__(self, model: XComp, tokenizer: TextTokenizer, stop_ids: Sequence[int] = ()) -> None:
        """`stop_ids` end an answer besides the chat format's own marker."""
        vocab = model.config.language.vocab
        if tokenizer.vocab_size > vocab:
            raise ValueError(f"vocab: {vocab} is too small for the tokenizer, which has {tokenizer.vocab_size} ids")
        self._decoder = model.decoder
        self._schedule = model.reading_schedule
        self._shape = (model.config.frame_tokens, model.config.language.width)
        self._tokenizer = tokenizer
        self._stop_ids = {tokenizer.im_end_id, *stop_ids}
        self._layers = relevant_layers(model.config.language.layers)
        begun = [{tokenizer.encode(word)[0] for word in words} for words in (YES, NO, UNCLEAR)]
        if len(set.union(*begun)) < sum(len(ids) for ids in begun):
            raise ValueError(
                "the tokenizer starts two of 'yes', 'no' and 'unclear' with the same token: "
                "verdicts cannot be told apart; use another tokenizer"
            )
        self._verdict_ids = [sorted(ids) for ids in begun]

    @property
    def most_frames(self) -> int:
        """Frames that fit into one sequence with the words about them."""
        return max(1, (self._decoder.config.positions - FOR_WORDS) // self._shape[0])

    @torch.inference_mode()
    def view(self, tokens: Float16Array) -> View:
        """Frames of memory, float16 [F, n, D], as one sequence of their own (the published method)."""
        video = self.video(tokens)
        return View(self._decoder.prefill(self._schedule, self._decoder.embed(prefix_ids(self._tokenizer)), video))

    @torch.inference_mode()
    def read(self, asked: Sequence[Questions]) -> list[list[QuestionReading]]:
        """Relevance and verdict of every question, by window and in the order of its questions.

        Everything goes through as one batch of rows: no frame runs again, and each question costs only its own words.
        A window in several views says yes as clearly as the view that says it most clearly.
        """
        inquiries: list[Inquiry] = []
        for window in asked:
            if isinstance(window.questions, str):
                raise TypeError("questions: must be a sequence of questions, not one string; write (question,)")
            if not window.views:
                raise ValueError("views: a window without frames cannot be read; leave it out")
            frames = sum(view.frames for view in window.views)
            prompts = [build_prompt(self._tokenizer, q, _checked(window.duration_s), frames) for q in window.questions]
            for view in window.views:
                inquiries += self._inquiries(view, prompts)
        heard = iter(ask(self._decoder, inquiries, self._layers, WHOLE) if inquiries else ())
        readings = []
        for window in asked:
            by_view = [self._heard(view, len(window.questions), heard) for view in window.views]
            readings.append([_joined(parts) for parts in zip(*by_view, strict=True)])
        return readings

    @torch.inference_mode()
    def select(self, tokens: Float16Array, question: str, duration_s: float, keep: int) -> Int64Array:
        """The `keep` most relevant frames of the window in time order; several passes from 1024 frames on (spec §9)."""
        if len(tokens) < LEAST_FRAMES:
            asked = Questions((self.view(tokens),), (question,), duration_s)
            return best_frames(self.read([asked])[0][0].relevance, keep)
        video = self.video(tokens)
        prompt = build_prompt(self._tokenizer, question, _checked(duration_s), len(video))
        prefix = self._decoder.embed(prompt.prefix_ids)

        def score_pass(numbers: Int64Array) -> Float64Array:
            cache = self._decoder.prefill(self._schedule, prefix, video[torch.from_numpy(numbers)])
            inquiry = self._inquiries(View(cache), [prompt])
            (heard,) = ask(self._decoder, inquiry, self._layers, SEGMENTS, only_scores=True)
            return heard.scores[:, 0].double().cpu().numpy()

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
        video = self.video(tokens)
        if frame_count < len(video):
            raise ValueError(f"frame_count: {frame_count} frames cannot have given the {len(video)} selected ones")
        prompt = build_prompt(self._tokenizer, question, _checked(duration_s), frame_count)
        prefix = self._decoder.embed(prompt.prefix_ids)
        cache = self._decoder.prefill(self._schedule, prefix, video, len(prompt.text_ids) + max_tokens)

        def next_logits(*ids: int) -> Tensor:
            nonlocal cache
            hidden, cache = self._decoder.extend(cache, self._decoder.embed(ids))
            return self._decoder.logits(hidden[-1:])[0]

        written = generate(
            next_logits(*prompt.text_ids),
            next_logits,
            max_tokens=max_tokens,
            repetition_penalty=repetition_penalty,
            stop_ids=self._stop_ids,
        )
        prompt_tokens = len(prompt.prefix_ids) + video.shape[0] * video.shape[1] + len(prompt.text_ids)
        return WrittenAnswer(self._tokenizer.decode(written), prompt_tokens, len(written))

    def video(self, tokens: Float16Array) -> Tensor:
        """Frames of memory as the decoder takes them. ValueError for another shape or type, and for NaN."""
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

    def _inquiries(self, view: View, prompts: Sequence[Prompt]) -> list[Inquiry]:
        """The questions about one view, so many at a time."""
        found = []
        for first in range(0, len(prompts), QUESTIONS_TOGETHER):
            some = prompts[first : first + QUESTIONS_TOGETHER]
            shared = _shared_rows(some)
            found.append(
                Inquiry(
                    view.cache,
                    self._decoder.embed(some[0].text_ids[:shared]),
                    tuple(self._decoder.embed(prompt.text_ids[shared:]) for prompt in some),
                    tuple(prompt.rows for prompt in some),
                    view.context,
                )
            )
        return found

    def _heard(self, view: View, questions: int, heard: Iterator[Heard]) -> list[QuestionReading]:
        """What one view says to each question."""
        readings: list[QuestionReading] = []
        while len(readings) < questions:
            one = next(heard)
            assert one.logits is not None, "the pass ran to its end"
            clips = clip_of(view.context, view.frames, one.scores.device)
            relevance = one.scores.sum(0)[:, clips].float().cpu().numpy()  # [B, F]
            probability = one.logits.softmax(-1)
            said = (probability[:, ids].sum(-1).tolist() for ids in self._verdict_ids)
            readings += [QuestionReading(*one) for one in zip(relevance, *said, strict=True)]
        return readings


def _joined(parts: Sequence[QuestionReading]) -> QuestionReading:
    """One window from its views, which are in the order of time.

    Attention is shared out within a view, among however many frames it has and whether or not they show what is asked
    for: frames of a short view count for less, and so do those of a view that says no.
    """
    if len(parts) == 1:
        return parts[0]
    clearest = max(parts, key=lambda part: part.probability)
    frames = sum(len(part.relevance) for part in parts)
    weights = [len(part.relevance) / frames * max(1 - part.no, _LEAST_WEIGHT) for part in parts]
    relevance = [part.relevance * np.float32(weight) for part, weight in zip(parts, weights, strict=True)]
    return replace(clearest, relevance=np.concatenate(relevance))


def _shared_rows(prompts: Sequence[Prompt]) -> int:
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
