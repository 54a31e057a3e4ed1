"""Schedule, LP-Comp prefill, cached decoding and greedy generation against the reference's numbers."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from standwatch.compression.generation import generate
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import build_schedule, runnable_schedule
from standwatch.compression.videocache import VideoCache
from tests.golden.golden_file import golden_file

pytestmark = pytest.mark.golden
GOLDEN = golden_file()
LPCOMP_CASES = [case for kind in GOLDEN.json["cases"] if kind.startswith("lpcomp") for case in GOLDEN.cases(kind)]
LPCOMP_CASES = LPCOMP_CASES or GOLDEN.cases("lpcomp")


class Forward:
    """One case: the video in pieces of so many frames, then the text; the decoder's results and its layers' inputs."""

    def __init__(self, case: dict[str, Any], piece: int | None = None, spare: int = 64) -> None:
        tag, prefix, frames = case["tag"], case["prefix_len"], case["num_frames"]
        embeds = GOLDEN.tensor(f"{tag}/inputs_embeds")[0]  # [S, D]
        video_end = prefix + frames * case["tokens_per_frame"]
        self.decoder = GOLDEN.decoder(tag)
        self.schedule = GOLDEN.schedule("suffix" if case["always_suffix"] else "uniform")
        self.inputs: dict[int, list[Tensor]] = {}
        hooks = [
            layer.input_layernorm.register_forward_pre_hook(partial(self._remember, index))
            for index, layer in enumerate(self.decoder.stack)
        ]
        video = embeds[prefix:video_end].reshape(frames, case["tokens_per_frame"], -1)
        self.text = embeds[video_end:]
        cache = self.decoder.empty(self.schedule, embeds[:prefix], frames, len(self.text) + spare)
        hidden = []
        for part in video.split(piece or frames):
            appended = self.decoder.append([cache], [part])
            (cache,) = appended.caches
            if appended.prefix is not None:
                hidden.append(appended.prefix)
            hidden.append(appended.frames[0].flatten(0, 1))
        self.video_cache = cache
        text_hidden, self.cache = self.decoder.extend(cache, self.text)
        self.hidden = torch.cat((*hidden, text_hidden))
        for hook in hooks:
            hook.remove()

    def _remember(self, index: int, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.inputs.setdefault(index, []).append(args[0])


@pytest.mark.parametrize("case", GOLDEN.cases("schedule"))
def test_schedule_equals_the_reference(case: dict[str, Any]) -> None:
    shape = case["num_layers"], case["tokens_per_frame"]
    uniform, suffix = build_schedule(*shape, "uniform"), build_schedule(*shape, "suffix")
    assert [list(numbers) for numbers in uniform.kept] == case["idx_lists_1based"]
    for schedule in (uniform, suffix):
        assert list(schedule.lengths) == case["list_lengths"]
        assert list(schedule.drop_steps) == case["drop_rank_layers"]
    if case["reference_runnable"]:
        for schedule in (uniform, suffix):
            assert list(schedule.tokens_by_layer) == case["tokens_seen_by_layer_0based"]
        assert [numbers[0] - 1 for numbers in suffix.kept[1:]] == case["suffix_first_kept_offset_by_layer"]
        assert runnable_schedule(*shape, "suffix") == suffix
    else:
        with pytest.raises(ValueError, match="too few"):
            runnable_schedule(*shape, "suffix")


@pytest.mark.parametrize("case", LPCOMP_CASES)
def test_every_layer_sees_what_it_saw_in_the_reference(case: dict[str, Any]) -> None:
    tag, run = case["tag"], Forward(case)
    rows = {layer: torch.cat(parts) for layer, parts in run.inputs.items()}
    assert [len(rows[layer]) for layer in sorted(rows)] == case["seq_len_by_layer"]
    assert list(run.cache.lengths) == case["kv_len_by_layer_after_prefill"]
    visual = [case["num_frames"] * count for count in run.schedule.tokens_by_layer]
    assert visual == case["visual_tokens_by_layer"]

    whole, last = GOLDEN.matches(rf"{tag}/layer_input/(\d+)"), GOLDEN.matches(rf"{tag}/layer_input_last_token/(\d+)")
    assert whole or last
    for match in whole:
        GOLDEN.assert_close(rows[int(match[1])], GOLDEN.tensor(match[0]))
    for match in last:
        GOLDEN.assert_close(rows[int(match[1])][-1], GOLDEN.tensor(match[0]))


@pytest.mark.parametrize("piece", [None, 1, 3, 4, 7])
@pytest.mark.parametrize("case", LPCOMP_CASES)
def test_final_states_logits_and_caches_equal_the_reference_whatever_the_pieces(
    case: dict[str, Any], piece: int | None
) -> None:
    tag, run = case["tag"], Forward(case, piece)
    GOLDEN.assert_close(run.hidden, GOLDEN.tensor(f"{tag}/final_hidden_normed"))
    logits = run.decoder.logits(run.hidden)
    GOLDEN.assert_close(logits[-len(run.text) :], GOLDEN.tensor(f"{tag}/logits_text"))
    GOLDEN.assert_close(logits[: case["prefix_len"]], GOLDEN.tensor(f"{tag}/logits_prefix"))
    caches = GOLDEN.matches(rf"{tag}/kv/(\d+)/(key|value)")
    assert caches
    for match in caches:
        layer, stored = int(match[1]), run.cache.keys if match[2] == "key" else run.cache.values
        GOLDEN.assert_close(stored[layer][:, : run.cache.length(layer)], GOLDEN.tensor(match[0]))


@pytest.mark.parametrize("case", LPCOMP_CASES)
def test_greedy_decoding_equals_the_reference_and_a_teacher_forced_prefill(case: dict[str, Any]) -> None:
    greedy = GOLDEN.matches(rf"{case['tag']}/(greedy(?:_rp([\d.]+))?)/tokens")
    assert greedy
    run = Forward(case)
    for match in greedy:
        expected = GOLDEN.tensor(match[0]).tolist()
        assert list(run.cache.lengths) == case["kv_len_by_layer_after_prefill"]
        steps = Steps(run.decoder, run.cache, run.hidden)
        tokens = generate(
            steps.logits[0], steps, max_tokens=len(expected), repetition_penalty=float(match[2] or 1), stop_ids=()
        )
        assert tokens == expected
        assert steps.lengths_before == case["decode_kv_len_before_by_step_and_layer"][: len(expected) - 1]
        assert steps.lengths_before == case["decode_position_by_step_and_layer"][: len(expected) - 1]
        cached = torch.stack(steps.logits)
        GOLDEN.assert_close(cached, GOLDEN.tensor(f"{case['tag']}/{match[1]}/raw_logits"))

        forced, _ = run.decoder.extend(run.video_cache, torch.cat((run.text, run.decoder.embed(tokens[:-1]))))
        GOLDEN.assert_close(run.decoder.logits(forced[-len(tokens) :]), cached)


class Steps:
    """Cached decoding that writes down the raw logits and where each layer stood."""

    def __init__(self, decoder: Decoder, cache: VideoCache, hidden: Tensor) -> None:
        self.decoder, self.cache = decoder, cache
        self.logits = [decoder.logits(hidden[-1:])[0]]
        self.lengths_before: list[list[int]] = []

    def __call__(self, token: int) -> Tensor:
        self.lengths_before.append(list(self.cache.lengths))
        hidden, self.cache = self.decoder.extend(self.cache, self.decoder.embed([token]))
        self.logits.append(self.decoder.logits(hidden)[0])
        return self.logits[-1]
