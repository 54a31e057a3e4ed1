"""A packed model says what the plain one says, and only what multiplies quicker is packed."""

import copy

import pytest
import torch
from torch import nn

from standwatch.compression.fusion import is_quick
from standwatch.compression.packing import Packed, pack
from standwatch.compression.xcomp import XComp, build
from tests.tiny_models import TINY

QUICK = is_quick(torch.zeros(1, dtype=torch.bfloat16))


def small(dtype: torch.dtype) -> XComp:
    torch.manual_seed(0)
    return build(TINY).to(dtype).eval()


def linears(model: nn.Module) -> int:
    return sum(isinstance(module, nn.Linear) for module in model.modules())


@pytest.mark.skipif(not QUICK, reason="this CPU has no AVX-512, or this PyTorch no oneDNN")
@torch.inference_mode()
def test_a_packed_model_sees_and_reads_as_the_plain_one_does() -> None:
    plain = small(torch.bfloat16)
    packed = copy.deepcopy(plain)
    pack(packed)
    assert linears(packed) == 0 < linears(plain)
    side = plain.config.vision.image_px
    clips = torch.randn(2, plain.config.vision.frames_per_clip, 3, side, side).bfloat16()
    torch.testing.assert_close(packed.features(clips), plain.features(clips), atol=0.05, rtol=0.05)
    tokens = plain.compress(clips).flatten(0, 1)
    prefix = plain.decoder.embed([1, 2, 3])
    caches = [one.decoder.prefill(one.lpcomp_schedule, prefix, tokens) for one in (plain, packed)]
    for ours, theirs in zip(caches[1].keys, caches[0].keys, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.05, rtol=0.05)


@pytest.mark.skipif(not QUICK, reason="this CPU has no AVX-512, or this PyTorch no oneDNN")
@pytest.mark.parametrize("rows", [1, 7, 50])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_multiplies_any_number_of_rows(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 64, bias=bias).bfloat16()
    given = torch.randn(2, rows, 96).bfloat16()
    with torch.inference_mode():
        torch.testing.assert_close(Packed(linear)(given), linear(given), atol=0.02, rtol=0.02)


def test_float32_stays_as_it_is() -> None:
    model = small(torch.float32)
    before = linears(model)
    pack(model)
    assert linears(model) == before > 0
