"""Loss, logits and gradients of one training step against the reference's."""

from typing import Any

import pytest
from torch import Tensor, nn

from standwatch.compression.labels import IGNORED, Sample, Words
from standwatch.compression.training import mean_loss
from tests.golden.golden_file import golden_file

pytestmark = pytest.mark.golden
GOLDEN = golden_file()


class Step:
    """One case through `mean_loss`: its loss, logits, and the gradients of weights, input rows and video."""

    def __init__(self, case: dict[str, Any], checkpointing: bool) -> None:
        tag, prefix, frames = case["tag"], case["prefix_len"], case["num_frames"]
        self.decoder = GOLDEN.decoder(tag).requires_grad_(True)
        schedule = GOLDEN.schedule("suffix")
        ids, labels = GOLDEN.ids(tag), GOLDEN.tensor(f"{tag}/labels_expanded")[0].tolist()
        self.video_end = prefix + frames * schedule.tokens_per_frame
        assert set(labels[prefix : self.video_end]) == {IGNORED}
        assert ids[prefix] == -200
        assert len(ids) - prefix - 1 == case["text_len"]

        embeds = GOLDEN.tensor(f"{tag}/inputs_embeds")[0]  # [S, D]
        self.video = embeds[prefix : self.video_end].reshape(frames, schedule.tokens_per_frame, -1).requires_grad_()
        words = Words(tuple(ids[:prefix]), tuple(labels[:prefix]))
        text = Words(tuple(ids[prefix + 1 :]), tuple(labels[self.video_end :]))

        self.rows: list[Tensor] = []
        self.states: list[Tensor] = []
        self.decoder.stack[0].input_layernorm.register_forward_pre_hook(self._remember_rows)
        self.decoder.norm.register_forward_hook(self._remember_states)
        sample = Sample(words, self.video, (text,))
        self.count = sample.layout.rows(schedule.tokens_per_frame)  # rows of padding come behind these
        self.loss = mean_loss(self.decoder, schedule, [sample], checkpointing=checkpointing)
        self.loss.backward()

    def _remember_rows(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        if args[0].requires_grad and not self.rows:  # once: with checkpointing the layer runs again
            args[0].retain_grad()
            self.rows.append(args[0])

    def _remember_states(self, _: nn.Module, args: tuple[Any, ...], states: Tensor) -> None:
        self.states.append(states.detach())


def gradient(step: Step, name: str) -> Tensor:
    if name != "inputs_embeds":
        found = dict(weights(step))[name].grad
        assert found is not None
        return found
    told = step.rows[0].grad
    assert told is not None and not told[step.count :].any()
    return told[: step.count]


def weights(step: Step) -> dict[str, nn.Parameter]:
    return {f"model.{name}": weight for name, weight in step.decoder.named_parameters()}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("case", GOLDEN.cases("train"))
def test_loss_and_logits_equal_the_reference(case: dict[str, Any], checkpointing: bool) -> None:
    tag, step = case["tag"], Step(case, checkpointing)
    GOLDEN.assert_close(step.rows[0][: step.count].detach(), GOLDEN.tensor(f"{tag}/inputs_embeds")[0])
    GOLDEN.assert_close(step.loss.detach()[None], GOLDEN.tensor(f"{tag}/loss"))
    assert step.loss.item() == pytest.approx(case["loss"], rel=1e-5)
    (states,) = step.states
    GOLDEN.assert_close(step.decoder.logits(states).detach(), GOLDEN.tensor(f"{tag}/logits"))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("case", GOLDEN.cases("train"))
def test_every_gradient_equals_the_reference(case: dict[str, Any], checkpointing: bool) -> None:
    tag, step = case["tag"], Step(case, checkpointing)
    matches = GOLDEN.matches(rf"{tag}/grad/(.+)")
    assert matches
    for match in matches:
        GOLDEN.assert_close(gradient(step, match[1]), GOLDEN.tensor(match[0]))
    # What the projector is told is what the reference's input rows are told.
    expected = GOLDEN.tensor(f"{tag}/grad/inputs_embeds")[case["prefix_len"] : step.video_end]
    assert step.video.grad is not None
    GOLDEN.assert_close(step.video.grad.flatten(0, 1), expected)
    assert all(weight.grad is not None for weight in step.decoder.parameters())
