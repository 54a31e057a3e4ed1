"""Which clips are scored, by which rows, whatever their number and wherever they stand."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from standwatch.compression.qcomp import (
    _MOST_LOGITS,
    UNCOVERED,
    Asking,
    Keys,
    QueryRows,
    ScoreType,
    clip_of,
    whole_scores,
    window_scores,
)
from tests.tiny_models import QUICK, normal, shape_of

CONFIG = replace(shape_of().config, head_dim=4)
PUBLISHED = ScoreType.parse("segments_8_4")


def turned(heads: Tensor, positions: Tensor, theta: float) -> Tensor:
    """[H, S, hd] at float64 angles."""
    half = heads.shape[-1] // 2
    angle = positions[:, None].double() * theta ** (-torch.arange(half).double() / half)
    first, second = heads.double().split(half, -1)
    return torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), -1)


def random_keys(clips: int, n: int, text: int, kv_heads: int = 1, head_dim: int = 4) -> Keys:
    prefix, video, words = (
        normal(kv_heads, rows, head_dim, seed=seed) for seed, rows in enumerate((2, clips * 8 * n, text))
    )
    return Keys(prefix, video, words, n, 2 + clips * 8 * n)


def one_question(rows: int, text: int, heads: int = 2, head_dim: int = 4) -> Asking:
    queries = normal(heads, rows, head_dim, seed=9)
    return Asking(queries, torch.ones(rows, text, dtype=torch.bool), torch.full((1, rows), 1 / rows))


@pytest.mark.parametrize("text", ["segments_8_3", "segments_0_4", "segments_4_0", "segments_4_8", "segment_8_4", ""])
def test_windows_that_do_not_step_evenly_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="score type"):
        ScoreType.parse(text)


def test_windows_start_every_stride_and_need_all_their_clips() -> None:
    assert ScoreType.parse("default") == ScoreType(0, 0)
    assert ScoreType(8, 4) == PUBLISHED
    assert [list(PUBLISHED.window_starts(clips)) for clips in (8, 11, 12, 17)] == [[0], [0], [0, 4], [0, 4, 8]]
    with pytest.raises(ValueError, match="segments of 8 clips need 64 frames, got 7 clips"):
        PUBLISHED.window_starts(7)


@pytest.mark.parametrize("rows", [(5, 5), (6, 5), (-1, 3)])
def test_a_question_that_leaves_no_rows_is_refused(rows: tuple[int, int]) -> None:
    """|X| <= 27 in the reference: NaN scores and a division by zero (spec §8)."""
    with pytest.raises(ValueError, match="leaves no rows"):
        QueryRows(*rows)


@QUICK
@given(st.integers(0, 30), st.integers(1, 40))
def test_clips_are_counted_from_the_first_frame_held_and_begin_at_0(context: int, frames: int) -> None:
    numbers = [frame // 8 for frame in range(context, context + frames)]
    assert clip_of(context, frames, torch.device("cpu")).tolist() == [number - numbers[0] for number in numbers]


@pytest.mark.parametrize(
    ("clips", "uncovered"),
    [
        (8, []),
        (9, [8]),
        (11, [8, 9, 10]),
        (12, [0, 1, 2, 3, 8, 9, 10, 11]),
        (13, [0, 1, 2, 3, 8, 9, 10, 11, 12]),
        (18, [0, 1, 2, 3, 12, 13, 14, 15, 16, 17]),
    ],
)
def test_only_clips_in_the_most_windows_have_a_score(clips: int, uncovered: list[int]) -> None:
    """Spec §8, the table by M."""
    scores = window_scores(one_question(3, 5), random_keys(clips, 1, 5), PUBLISHED, CONFIG)
    assert (scores[0] == UNCOVERED).nonzero().flatten().tolist() == uncovered
    assert ((scores > 0) & (scores < 1))[0].sum() == clips - len(uncovered)


def test_without_windows_every_clip_is_scored_and_weights_are_shared_out() -> None:
    """What a row gives to prefix, text and frames is 1 in sum; here all keys are alike, so it is known."""
    keys = random_keys(2, 3, 5)
    alike = Keys(*(torch.ones_like(part) for part in (keys.prefix, keys.video, keys.text)), 3, keys.text_start)
    scores = whole_scores(one_question(4, 5), alike, 0)
    torch.testing.assert_close(scores, torch.full((1, 2), 1 / (2 + 48 + 5)))
    half_seen = replace(alike, video=alike.video[:, 4 * 3 :])
    scores = whole_scores(one_question(4, 5), half_seen, 4)
    torch.testing.assert_close(scores, torch.full((1, 2), 1 / (2 + 36 + 5)))


@pytest.mark.parametrize("text_start", [50, 100_000, 131_000])
def test_a_window_is_as_exact_at_the_end_of_the_position_range_as_at_its_beginning(text_start: int) -> None:
    """Queries are shifted back to the window, by angles of up to 100,000 radians: too much for float32."""
    config, rows, text, n, clips = replace(CONFIG, head_dim=16, rope_theta=1e6), 4, 6, 1, 3
    kind = ScoreType.parse("segments_2_1")
    raw = random_keys(clips, n, text, 2, config.head_dim)
    queries = 3 * normal(4, rows, config.head_dim, seed=5)
    video_at, text_at = 2 + torch.arange(clips * 8 * n), torch.arange(text)
    keys = Keys(
        turned(raw.prefix, torch.arange(2), config.rope_theta).float(),
        turned(raw.video, video_at, config.rope_theta).float(),
        turned(raw.text, text_start + text_at, config.rope_theta).float(),
        n,
        text_start,
    )
    asking = Asking(
        turned(queries, text_start + text_at[-rows:], config.rope_theta).float(),
        torch.ones(rows, text, dtype=torch.bool),
        torch.full((1, rows), 1 / rows),
    )
    found = [[0.0] * 2 for _ in range(2)]
    for start in range(2):
        short = torch.cat((raw.prefix, raw.video[:, start * 8 : start * 8 + 16], raw.text), 1)
        fresh = turned(short, torch.arange(short.shape[1]), config.rope_theta).repeat_interleave(2, 0)
        moved = turned(queries, 2 + 16 + text_at[-rows:], config.rope_theta)
        weight = (moved @ fresh.transpose(1, 2) / config.head_dim**0.5).softmax(-1).mean((0, 1))
        found[start] = [float(weight[2:10].mean()), float(weight[10:18].mean())]
    middle = (found[0][1] + found[1][0]) / 2
    scores = window_scores(asking, keys, kind, config)
    assert scores[0].tolist() == [UNCOVERED, pytest.approx(middle, rel=2e-6), UNCOVERED]


def many_questions(heads: int, questions: int, rows: int, head_dim: int = 2) -> Asking:
    """Each with words of its own."""
    count = questions * rows
    of_question = torch.arange(questions).repeat_interleave(rows)
    own = of_question[:, None] == of_question[None]
    means = (torch.arange(questions)[:, None] == of_question[None]) / rows
    return Asking(normal(heads, count, head_dim, seed=7), own, means)


def question_of(asking: Asking, number: int) -> Asking:
    rows = asking.means[number] > 0
    return Asking(asking.queries[:, rows], asking.words[rows], asking.means[number : number + 1, rows])


@pytest.mark.parametrize("whole", [True, False])
def test_more_rows_than_fit_into_memory_at_once_are_scored_in_parts(whole: bool) -> None:
    """600 rows make more products than are held at a time; 30 of one question do not. The cut is within a question."""
    config = replace(CONFIG, head_dim=2)
    asking = many_questions(16, questions=20, rows=30)
    keys = random_keys(16, 8, 600, 1, 2) if whole else random_keys(64, 1, 600, 1, 2)
    kind = ScoreType.parse("segments_32_2")

    def scores(of: Asking) -> Tensor:
        return whole_scores(of, keys, 0) if whole else window_scores(of, keys, kind, config)

    products = 600 * 16 * (16 * 8 * 8 if whole else 32 * 8)  # of one window, where there are several
    assert products > _MOST_LOGITS > products // 20
    together = scores(asking)
    for number in range(0, 20, 4):
        torch.testing.assert_close(
            together[number : number + 1], scores(question_of(asking, number)), rtol=1e-4, atol=0
        )
