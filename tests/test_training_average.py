"""Workers that learn together change their weights alike: each gets the mean of all gradients."""

from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

from standwatch.actors.training_run import average_gradients, read_lessons
from standwatch.compression.tuning.examples import write_shard
from standwatch.pipeline.errors import BadInput
from tests.test_tuning_learning import example

SHAPES = ((3, 2), (5,), (1, 4))


def gradients(rank: int) -> list[torch.Tensor]:
    return [
        torch.randn(shape, generator=torch.Generator().manual_seed(7 * rank + place))
        for place, shape in enumerate(SHAPES)
    ]


def worker(rank: int, meeting: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    weights = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    frozen = nn.Parameter(torch.zeros(2))
    for weight, gradient in zip(weights, gradients(rank), strict=True):
        weight.grad = gradient
    average_gradients([weights[0], frozen, *weights[1:]], 2)
    assert frozen.grad is None
    for weight, one, other in zip(weights, gradients(0), gradients(1), strict=True):
        torch.testing.assert_close(weight.grad, (one + other) / 2)
    torch.distributed.destroy_process_group()


@pytest.mark.timeout(120)
def test_each_of_two_workers_gets_the_mean_of_both(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(worker, (str(tmp_path / "meeting"),), nprocs=2)  # type: ignore[no-untyped-call]


def test_lessons_are_those_of_few_enough_frames_and_a_folder_without_any_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"^{tmp_path}: has no lessons"):
        read_lessons(str(tmp_path))
    write_shard(tmp_path, "one", [example(2), example(5)])
    assert [len(one.times_ms) for one in read_lessons(str(tmp_path))] == [2, 5]
    assert [len(one.times_ms) for one in read_lessons(str(tmp_path), most_frames=4)] == [2]
    with pytest.raises(BadInput, match="of so few frames"):
        read_lessons(str(tmp_path), most_frames=1)
