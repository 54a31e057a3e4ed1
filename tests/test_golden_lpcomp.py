"""Schedule, LP-Comp prefill, cached decoding and greedy generation against the reference's numbers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from standwatch.compression.generation import generate
from standwatch.compression.lpcomp import Decoder, DecoderCache
from standwatch.compression.schedule import build_schedule, runnable_schedule
from tests.golden.golden_file import golden_file

pytestmark = pytest.mark.golden
GOLDEN = golden_file()
LPCOMP_CASES = [case for kind in GOLDEN.json["cases"] if kind.startswith("lpcomp") for case in GOLDEN.cases(kind)]
LPCOMP_CASES = LPCOMP_CASES or GOLDEN.cases("lpcomp")


class Forward:
    """One case, run once: the decoder's results and what every layer was given."""

    def __init__(self, case: dict[str, Any], spare: int = 64) -> None:
        tag, prefix = case["tag"], case["prefix_len"]
        embeds = GOLDEN.tensor(f"{tag}/inputs_embeds")[0]  # [S, D]
        video_end = prefix + case["num_frames"] * case["tokens_per_frame"]
        self.decoder = GOLDEN.decoder(tag, "suffix" if case["always_suffix"] else "uniform")
        self.inputs: dict[int, list[Tensor]] = {}
        hooks = [layer.register_forward_pre_hook(self._remember) for layer in self.decoder.layers]
        video = embeds[prefix:video_end].reshape(case["num_frames"], case["tokens_per_frame"], -1)
        self.text = embeds[video_end:]
        video_hidden, self.cache = self.decoder.prefill(embeds[:prefix], video, len(self.text) + spare)
        self.mark = self.cache.lengths
        self.hidden = torch.cat((video_hidden, self.decoder.extend(self.cache, self.text)))
        for hook in hooks:
            hook.remove()

    def _remember(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        self.inputs.setdefault(int(layer.index), []).append(args[0])


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
    visual = [case["num_frames"] * count for count in run.decoder.schedule.tokens_by_layer]
    assert visual == case["visual_tokens_by_layer"]

    whole, last = GOLDEN.matches(rf"{tag}/layer_input/(\d+)"), GOLDEN.matches(rf"{tag}/layer_input_last_token/(\d+)")
    assert whole or last
    for match in whole:
        GOLDEN.assert_close(rows[int(match[1])], GOLDEN.tensor(match[0]))
    for match in last:
        GOLDEN.assert_close(rows[int(match[1])][-1], GOLDEN.tensor(match[0]))


@pytest.mark.parametrize("case", LPCOMP_CASES)
def test_final_states_logits_and_caches_equal_the_reference(case: dict[str, Any]) -> None:
    tag, run = case["tag"], Forward(case)
    GOLDEN.assert_close(run.hidden, GOLDEN.tensor(f"{tag}/final_hidden_normed"))
    logits = run.decoder.logits(run.hidden)
    GOLDEN.assert_close(logits[-len(run.text) :], GOLDEN.tensor(f"{tag}/logits_text"))
    GOLDEN.assert_close(logits[: case["prefix_len"]], GOLDEN.tensor(f"{tag}/logits_prefix"))
    caches = GOLDEN.matches(rf"{tag}/kv/(\d+)/(key|value)")
    assert caches
    for match in caches:
        cache = run.cache.layers[int(match[1])]
        GOLDEN.assert_close(cache.keys if match[2] == "key" else cache.values, GOLDEN.tensor(match[0]))


@pytest.mark.parametrize("case", LPCOMP_CASES)
def test_greedy_decoding_equals_the_reference_and_a_teacher_forced_prefill(case: dict[str, Any]) -> None:
    greedy = GOLDEN.matches(rf"{case['tag']}/(greedy(?:_rp([\d.]+))?)/tokens")
    assert greedy
    run = Forward(case)
    for match in greedy:
        expected = GOLDEN.tensor(match[0]).tolist()
        run.cache.rewind(tuple(case["kv_len_by_layer_after_prefill"]))
        steps = Steps(run.decoder, run.cache, run.hidden)
        tokens = generate(
            steps.logits[0], steps, max_tokens=len(expected), repetition_penalty=float(match[2] or 1), stop_ids=()
        )
        assert tokens == expected
        assert steps.lengths_before == case["decode_kv_len_before_by_step_and_layer"][: len(expected) - 1]
        assert steps.lengths_before == case["decode_position_by_step_and_layer"][: len(expected) - 1]
        cached = torch.stack(steps.logits)
        GOLDEN.assert_close(cached, GOLDEN.tensor(f"{case['tag']}/{match[1]}/raw_logits"))

        run.cache.rewind(run.mark)
        forced = run.decoder.extend(run.cache, torch.cat((run.text, run.decoder.embed(tokens[:-1]))))
        GOLDEN.assert_close(run.decoder.logits(forced[-len(tokens) :]), cached)


class Steps:
    """Cached decoding that writes down the raw logits and where each layer stood."""

    def __init__(self, decoder: Decoder, cache: DecoderCache, hidden: Tensor) -> None:
        self.decoder, self.cache = decoder, cache
        self.logits = [decoder.logits(hidden[-1:])[0]]
        self.lengths_before: list[list[int]] = []

    def __call__(self, token: int) -> Tensor:
        self.lengths_before.append(list(self.cache.lengths))
        self.logits.append(self.decoder.logits(self.decoder.extend(self.cache, self.decoder.embed([token])))[0])
        return self.logits[-1]
