"""What is kept of a video: its size to the byte, views that cost nothing, and the same again after saving."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from standwatch.compression.schedule import Schedule, runnable_schedule
from standwatch.compression.videocache import VideoCache
from standwatch.configs.schema import LanguageConfig
from tests.tiny_models import Shape, shape_of

SHAPE = shape_of()  # tokens by layer: 4 3 3 2 1 1
KIB = 1024


def filled(frames: int, capacity: int, room: int = 0, shape: Shape = SHAPE) -> VideoCache:
    empty = shape.decoder.empty(shape.schedule, shape.rows(3), capacity, room)
    return shape.decoder.append([empty], [shape.video(frames)]).caches[0]


def contents(cache: VideoCache) -> list[Tensor]:
    return [
        tensor[:, : cache.length(layer)]
        for layer in range(len(cache.keys))
        for tensor in (cache.keys[layer], cache.values[layer])
    ]


def equal(one: VideoCache, other: VideoCache) -> bool:
    return one.lengths == other.lengths and all(map(torch.equal, contents(one), contents(other)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_open_segment_of_the_2b_model_takes_231_kib_a_frame_and_its_prefix(dtype: torch.dtype) -> None:
    """Spec §14. 14 rows of prefix in 28 layers are 392 KiB more."""
    schedule, prefix = runnable_schedule(28, 16, "suffix"), torch.empty(14, 1536, dtype=dtype, device="meta")
    cache = VideoCache.empty(LanguageConfig(), schedule, prefix, 64)
    assert cache.nbytes == 64 * 231 * KIB + 14 * 28 * KIB
    a_pass = VideoCache.empty(LanguageConfig(), schedule, prefix, 576)
    assert a_pass.nbytes - cache.nbytes == 512 * 231 * KIB


def test_storage_is_just_what_is_announced_and_is_never_exchanged() -> None:
    cache = filled(2, capacity=5, room=7)
    by_layer = [3 + 5 * n + 7 for n in (4, 3, 3, 2, 1, 1)]
    assert [keys.shape for keys in cache.keys] == [values.shape for values in cache.values]
    assert [tuple(keys.shape) for keys in cache.keys] == [(2, rows, 8) for rows in by_layer]
    assert cache.nbytes == sum(by_layer) * 2 * 2 * 8 * 4
    later = SHAPE.decoder.append([cache], [SHAPE.video(3)]).caches[0]
    assert [keys.data_ptr() for keys in later.keys] == [keys.data_ptr() for keys in cache.keys]
    assert later.nbytes == cache.nbytes


def test_a_layers_length_is_prefix_frames_and_text_and_nothing_before_the_first_frame() -> None:
    empty = SHAPE.decoder.empty(SHAPE.schedule, SHAPE.rows(3), 5, 2)
    assert not empty.started and empty.lengths == (0,) * 6
    cache = filled(2, 5, 2)
    assert cache.started and cache.lengths == (11, 9, 9, 7, 5, 5)
    _, told = SHAPE.decoder.extend(cache, SHAPE.rows(2))
    assert told.lengths == (13, 11, 11, 9, 7, 7)
    assert [told.text_start(layer) for layer in range(6)] == list(cache.lengths)
    assert told.first(1).lengths == (7, 6, 6, 5, 4, 4)


def test_going_back_is_what_it_was_then_and_copies_nothing() -> None:
    cache = filled(5, 5)
    assert equal(cache.first(5), cache)
    back = cache.first(3)
    assert equal(back, filled(5, 5).first(3))
    assert [keys.data_ptr() for keys in back.keys] == [keys.data_ptr() for keys in cache.keys]
    again = SHAPE.decoder.append([filled(5, 5).first(3)], [SHAPE.video(5)[3:]]).caches[0]
    torch.testing.assert_close(contents(again), contents(cache), atol=1e-5, rtol=0)


def test_a_copy_with_room_takes_text_and_leaves_the_feeds_own_alone() -> None:
    cache = filled(3, 5)
    before = [tensor.clone() for tensor in contents(cache)]
    text = SHAPE.rows(4, seed=9)
    with pytest.raises(ValueError, match="room for 0 more"):
        SHAPE.decoder.extend(cache, text)
    roomy = cache.with_room(4)
    assert (roomy.capacity, roomy.room, equal(roomy, cache)) == (3, 4, True)
    hidden, told = SHAPE.decoder.extend(roomy, text)
    expected, _ = SHAPE.decoder.extend(filled(3, 3, 4), text)
    assert torch.equal(hidden, expected)
    after = SHAPE.decoder.append([cache], [SHAPE.video(1)]).caches[0]
    assert all(map(torch.equal, contents(after.first(3)), before))
    longer = told.with_room(2)
    assert (longer.text, longer.room) == (4, 6)
    assert SHAPE.decoder.extend(longer, text[:2])[1].text == 6


def through_torch(saved: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    torch.save(saved, folder / "cache.pt")
    loaded: dict[str, Tensor] = torch.load(folder / "cache.pt", weights_only=True)
    return loaded


def through_safetensors(saved: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    save_file(saved, folder / "cache.safetensors")
    return load_file(folder / "cache.safetensors")


@pytest.mark.parametrize("carry", [through_torch, through_safetensors])
@pytest.mark.parametrize("capacity", [3, 5, 40])
def test_what_was_saved_goes_on_as_if_it_had_stayed(
    carry: Callable[[dict[str, Tensor], Path], dict[str, Tensor]], capacity: int, tmp_path: Path
) -> None:
    cache = filled(3, 5)
    saved = carry(cache.save(), tmp_path)
    assert sum(tensor.nbytes for name, tensor in saved.items() if name[:4] in ("keys", "valu")) == sum(
        tensor.nbytes for tensor in contents(cache)
    ), "storage without frames is not saved"
    restored = VideoCache.restore(saved, SHAPE.config, SHAPE.schedule, capacity)
    assert (restored.frames, restored.capacity, equal(restored, cache)) == (3, capacity, True)
    if capacity > 3:
        more = SHAPE.video(2, seed=7)
        one, other = (SHAPE.decoder.append([view], [more]).caches[0] for view in (cache, restored))
        assert equal(one, other)


def test_what_is_saved_stays_as_it_was_while_the_feed_goes_on() -> None:
    cache = filled(3, 5)
    saved = cache.save()
    SHAPE.decoder.append([cache.first(1)], [SHAPE.video(2, seed=5)])
    restored = VideoCache.restore(saved, SHAPE.config, SHAPE.schedule, 5)
    assert equal(restored, filled(3, 5))


def test_a_cache_without_frames_can_be_saved_too() -> None:
    saved = SHAPE.decoder.empty(SHAPE.schedule, SHAPE.rows(3), 5).save()
    restored = VideoCache.restore(saved, SHAPE.config, SHAPE.schedule, 5)
    assert not restored.started
    grown = SHAPE.decoder.append([restored], [SHAPE.video(2)]).caches[0]
    assert equal(grown, filled(2, 5))


def test_half_precision_is_saved_and_restored_as_it_is() -> None:
    shape = SHAPE
    prefix = shape.rows(3).bfloat16()
    cache = VideoCache.empty(shape.config, shape.schedule, prefix, 4)
    restored = VideoCache.restore(cache.save(), shape.config, shape.schedule, 4)
    assert {tensor.dtype for tensor in (*restored.keys, *restored.values)} == {torch.bfloat16}
    assert restored.nbytes * 2 == filled(1, 4).nbytes


def test_what_cannot_be_restored_is_refused_by_name() -> None:
    saved, config, schedule = filled(3, 5).save(), SHAPE.config, SHAPE.schedule
    with pytest.raises(ValueError, match="capacity: 2 frames cannot hold the 3 saved"):
        VideoCache.restore(saved, config, schedule, 2)
    with pytest.raises(ValueError, match=r"keys\.0: .* needs \[1, 15, 8\]"):
        VideoCache.restore(saved, replace(config, kv_heads=1), schedule, 5)
    with pytest.raises(ValueError, match=r"keys\.1"):
        VideoCache.restore(saved, config, Schedule(((1, 2, 3, 4),) * 7), 5)
    with pytest.raises(ValueError, match=r"values\.5: saved is nothing"):
        VideoCache.restore({n: t for n, t in saved.items() if n != "values.5"}, config, schedule, 5)
    with pytest.raises(ValueError, match=r"keys\."):
        VideoCache.restore({**saved, "keys.6": saved["keys.5"]}, config, schedule, 5)
    with pytest.raises(ValueError, match="prefix: "):
        VideoCache.restore({n: t for n, t in saved.items() if n != "prefix"}, config, schedule, 5)
    with pytest.raises(ValueError, match="frames: "):
        VideoCache.restore({n: t for n, t in saved.items() if n != "frames"}, config, schedule, 5)
    _, told = SHAPE.decoder.extend(filled(3, 5, 1), SHAPE.rows(1))
    with pytest.raises(ValueError, match="text"):
        told.save()


def test_more_positions_than_the_model_was_made_for_are_refused_and_the_most_is_named() -> None:
    config, prefix = replace(SHAPE.config, positions=50), SHAPE.rows(3)
    with pytest.raises(ValueError, match=r"frames: 12 of 4 tokens need 51 positions, .* 50; read at most 11 frames"):
        VideoCache.empty(config, SHAPE.schedule, prefix, 12)
    assert VideoCache.empty(config, SHAPE.schedule, prefix, 11, 3).capacity == 11
    with pytest.raises(ValueError, match=r"frames: .* read at most 10 frames"):
        VideoCache.empty(config, SHAPE.schedule, prefix, 11, 4)
    for capacity, room in ((0, 0), (1, -1)):
        with pytest.raises(ValueError, match="capacity"):
            VideoCache.empty(config, SHAPE.schedule, prefix, capacity, room)
