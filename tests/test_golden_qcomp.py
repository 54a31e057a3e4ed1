"""QC-Comp scores, passes, selection and the final answer against the reference's numbers."""

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from standwatch.compression.asking import Inquiry, ask
from standwatch.compression.frame_sampling import time_message
from standwatch.compression.frame_selection import (
    Float64Array,
    Int64Array,
    best_frames,
    pass_frames,
    pass_length,
    pass_starts,
    sum_passes,
)
from standwatch.compression.generation import generate
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.prompt import assistant_start, prompt_text
from standwatch.compression.qcomp import UNCOVERED, QueryRows, ScoreType
from tests.golden.golden_file import embed_mod_vocab, golden_file

pytestmark = pytest.mark.golden
GOLDEN = golden_file()
CHATS = {case.values[0]["tag"]: case.values[0] for case in GOLDEN.cases("qc_chat") if case.values[0]}


def clip_scores(
    decoder: Decoder, prefix: Tensor, video: Tensor, text: Tensor, rows: QueryRows, score_type: ScoreType
) -> Tensor:
    """Scores of whole clips in every layer: [layers, F // 8]. The text runs alone, against the cached video."""
    cache = decoder.prefill(GOLDEN.schedule("suffix"), prefix, video)
    inquiry = Inquiry(cache, text[: rows.start], (text[rows.start :],), (rows,))
    every_layer = range(decoder.config.layers)
    (heard,) = ask(decoder, [inquiry], every_layer, score_type, only_scores=True)
    return heard.scores[:, 0, : len(video) // 8]


@pytest.mark.parametrize("case", GOLDEN.cases("qc_prefill"))
def test_clip_scores_of_one_prefill_equal_the_reference(case: dict[str, Any]) -> None:
    tag, prefix, frames = case["tag"], case["prefix_len"], case["num_frames"]
    embeds = GOLDEN.tensor(f"{tag}/inputs_embeds")[0]
    text_start = len(embeds) - case["text_len_after_video"]
    video = embeds[prefix:text_start].reshape(frames, -1, embeds.shape[1])
    stop = case["first_conv_length"] - 1 - prefix
    assert stop == case["scored_text_len"]
    decoder = GOLDEN.decoder(tag)
    assert {f"{v['score_type']}_bias{v['query_bias']}" for v in case["variants"]} == {
        match[1] for match in GOLDEN.matches(rf"{tag}/scores/(.+)")
    }
    for variant in case["variants"]:
        score_type, bias = variant["score_type"], variant["query_bias"]
        rows = QueryRows(bias, stop)
        scores = clip_scores(
            decoder, embeds[:prefix], video, embeds[text_start:], rows, ScoreType.parse(score_type)
        ).double()
        expected = GOLDEN.tensor(f"{tag}/scores/{score_type}_bias{bias}")
        uncovered = torch.zeros_like(expected, dtype=torch.bool)
        uncovered[:, variant["uncovered_clips"]] = True
        assert torch.equal(scores == UNCOVERED, uncovered)
        assert torch.equal(expected == UNCOVERED, uncovered)
        GOLDEN.assert_close(scores, expected, "scores")


class Chat:
    """One qc_chat case: the given frame features and the prompt around them."""

    def __init__(self, tag: str) -> None:
        self.case = CHATS[tag]
        self.decoder = GOLDEN.decoder(tag)
        self.features = self._features(tag).float()  # [F, n, D]
        ids = GOLDEN.ids(tag)
        placeholder = self.case["first_image_token_position"]
        self.prefix = embed_mod_vocab(self.decoder, ids[:placeholder])
        self.text = embed_mod_vocab(self.decoder, ids[placeholder + 1 :])
        self.rows = QueryRows(self.case["query_bias"], self.case["first_conv_length"] - 1 - placeholder)
        self.score_type = ScoreType.parse(self.case["score_type"])
        first, last = re.findall(r"\d+", self.case["scored_layers"])
        self.layers = slice(int(first), int(last) + 1)
        length = pass_length(self.score_type)
        starts = pass_starts(len(self.features), self.case["duplicate"])
        self.passes = [pass_frames(start, length, len(self.features)) for start in starts]

    def _features(self, tag: str) -> Tensor:
        named = re.findall(r"(\S+)/frame_features", self.case.get("note", ""))
        for owner in (tag, *named, "qc_chat"):
            if f"{owner}/frame_features" in GOLDEN.names:
                return GOLDEN.tensor(f"{owner}/frame_features")
        raise KeyError(f"no frame_features for {tag}")

    def score_pass(self, numbers: Int64Array) -> Float64Array:
        video = self.features[torch.from_numpy(numbers)]
        scores: Float64Array = (
            clip_scores(self.decoder, self.prefix, video, self.text, self.rows, self.score_type).double().numpy()
        )
        return scores


@cache
def scored(tag: str) -> tuple[Chat, list[Float64Array]]:
    chat = Chat(tag)
    return chat, [chat.score_pass(numbers) for numbers in chat.passes]


@pytest.mark.parametrize("case", GOLDEN.cases("qc_chat"))
def test_prompt_and_passes_equal_the_reference(case: dict[str, Any]) -> None:
    question, duration, frames = case["question"], case["duration_seconds"], case["num_frames"]
    assert time_message(duration, frames) == case["time_message"]
    assert prompt_text(question, duration, frames) == case["prompt"]
    ids = GOLDEN.ids(case["tag"])
    assert ids.index(-200) == case["first_image_token_position"]
    assert assistant_start(ids, ids[0], [ids[-2]]) == case["first_conv_length"]

    length = pass_length(ScoreType.parse(case["score_type"]))
    assert length == case["max_segments"]
    starts = pass_starts(frames, case["duplicate"])
    assert len(starts) == case["min_rounds"] * case["duplicate"]
    assert [{"start": s, "end": (s + length) % frames} for s in starts] == case["passes"]


@pytest.mark.parametrize("case", GOLDEN.cases("qc_chat"))
def test_pass_scores_equal_the_reference(case: dict[str, Any]) -> None:
    _, scores = scored(case["tag"])
    expected = GOLDEN.tensor(f"{case['tag']}/pass_scores")
    actual = torch.from_numpy(np.stack(scores))
    assert torch.equal(actual == UNCOVERED, expected == UNCOVERED)
    GOLDEN.assert_close(actual, expected, "scores")


@pytest.mark.parametrize("case", GOLDEN.cases("qc_chat"))
def test_frame_scores_and_every_selection_equal_the_reference(case: dict[str, Any]) -> None:
    tag = case["tag"]
    chat, scores = scored(tag)
    frame_scores = sum_passes(chat.passes, [one[chat.layers] for one in scores], len(chat.features))
    expected = GOLDEN.tensor(f"{tag}/frame_scores")
    GOLDEN.assert_close(torch.from_numpy(frame_scores), expected, "scores")
    selections = [(match[0], int(match[1])) for match in GOLDEN.matches(rf"{tag}/selected_k(\d+)")]
    selections += [(f"{tag}/selected", case["K"])]
    for name, keep in selections:
        assert best_frames(expected.numpy(), keep).tolist() == GOLDEN.tensor(name).tolist()
        assert best_frames(frame_scores, keep).tolist() == GOLDEN.tensor(name).tolist()


@pytest.mark.parametrize("case", GOLDEN.cases("qc_chat"))
def test_answer_on_the_selected_frames_equals_the_reference(case: dict[str, Any]) -> None:
    chat = scored(case["tag"])[0]
    decoder, selected = chat.decoder, GOLDEN.tensor(f"{case['tag']}/selected")
    assert len(selected) == case["frames_in_each_generate_call"][-1]
    expected = GOLDEN.tensor(f"{case['tag']}/answer_tokens").tolist()
    cache = decoder.prefill(
        GOLDEN.schedule("suffix"), chat.prefix, chat.features[selected], len(chat.text) + len(expected)
    )

    def following(rows: Tensor) -> Tensor:
        nonlocal cache
        hidden, cache = decoder.extend(cache, rows)
        return decoder.logits(hidden[-1:])[0]

    written = generate(
        following(chat.text),
        lambda token: following(decoder.embed([token])),
        max_tokens=len(expected),
        repetition_penalty=1.0,
        stop_ids=(),
    )
    assert written == expected
