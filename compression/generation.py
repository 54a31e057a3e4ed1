"""Decides which token is written next: greedy, with a penalty on what was already written (spec §10)."""

from collections.abc import Callable, Container

import torch
from torch import Tensor


def generate(
    first_logits: Tensor,
    next_logits: Callable[[int], Tensor],
    *,
    max_tokens: int,
    repetition_penalty: float,
    stop_ids: Container[int],
) -> list[int]:
    """Greedy token ids, at most `max_tokens`, up to but without the first stop id.

    `first_logits` [vocab] follow the prompt; `next_logits` gives those after a written token. Prompt tokens are not
    penalised. `repetition_penalty` 1 switches the penalty off.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens: {max_tokens} must be at least 1")
    if repetition_penalty <= 0:
        raise ValueError(f"repetition_penalty: {repetition_penalty} must be above 0; 1 switches it off")
    written: list[int] = []
    logits = first_logits
    while True:
        token = int(_penalised(logits, written, repetition_penalty).argmax())
        if token in stop_ids:
            return written
        written.append(token)
        if len(written) == max_tokens:
            return written
        logits = next_logits(token)


def _penalised(logits: Tensor, written: list[int], penalty: float) -> Tensor:
    if penalty == 1 or not written:
        return logits
    seen = torch.tensor(written, device=logits.device)
    chosen = logits[seen]
    return logits.index_copy(0, seen, torch.where(chosen > 0, chosen / penalty, chosen * penalty))
