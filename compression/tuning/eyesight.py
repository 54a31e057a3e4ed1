"""Decides how vision learns: additions of low rank to the blocks of the tower between its first tap and its last.

A tower that was trained on whole scenes tells small things badly, in drawings above all; what is plain before its first
tap (edges, colours, places) is left as it is. With additions the tower computes as much as before once they are merged
into its weights, so seeing better costs nothing when frames are encoded.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from standwatch.compression.checkpoint_layout import PROJECTOR, TOWER, part_of
from standwatch.compression.dinov2 import FrameTower
from standwatch.compression.preprocess import preprocess
from standwatch.compression.tuning.adapters import adapt, merged
from standwatch.compression.xcomp import XComp, load_strictly


def learning_blocks(tower: FrameTower) -> nn.ModuleList:
    """Those between the first tap and the last; all of a tower without taps."""
    taps = tower.config.taps
    blocks = tower.blocks[taps[0] : taps[-1]] if taps else tower.blocks
    assert isinstance(blocks, nn.ModuleList)
    return blocks


def adapt_vision(model: XComp, rank: int) -> None:
    """Give the tower's blocks that learn their additions. Raises ValueError for a tower or taps without such blocks."""
    tower = model.vision
    if not isinstance(tower, FrameTower) or not len(learning_blocks(tower)):
        raise ValueError("see: this tower has nothing to learn with; use 'dinov2' with no taps or more than one")
    adapt(tower, learning_blocks(tower), rank, seed=0)


def merge_vision(model: XComp, learnt: Mapping[str, Tensor]) -> None:
    """Merge the tower's part of what was learnt, if there is one, into the tower's weights.

    Raises ValueError, naming it, for an addition that does not fit.
    """
    model.vision.load_state_dict(merged(model.vision.state_dict(), part_of(learnt, TOWER)))


def sees_as(model: XComp, learnt: Mapping[str, Tensor]) -> None:
    """Give the model the tower and the projector of what was learnt, or of a release.

    Raises ValueError for those of another model.
    """
    merge_vision(model, learnt)
    load_strictly(model.projector.float(), part_of(learnt, PROJECTOR))


def look_at(model: XComp, pictures: Tensor) -> Tensor:
    """What the tower makes of pictures uint8 [F, H, W, 3]: features [F, n, W] before the projector."""
    pixels = preprocess(list(pictures.cpu().numpy()), model.config.vision.image_px)
    weight = next(model.vision.parameters())
    features: Tensor = model.features(pixels.to(weight)[:, None])[:, 0]
    return features
