"""Decides how memory's one token of a frame is learnt: what part of LP-Comp leaves, through the readout (DESIGN §1).

Answering alone finds nothing in a readout drawn at random, as it finds nothing in such a projector. So the readout
learns first that a frame's token is to be like the words for everything in the frame; then it is read.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from standwatch.compression.labels import Layout
from standwatch.compression.training import forward
from standwatch.compression.tuning.alignment import POSES, QUESTIONS, shows_pose
from standwatch.compression.tuning.examples import Object
from standwatch.compression.xcomp import XComp


def left_of(model: XComp, prefix: Tensor, videos: Sequence[Tensor]) -> list[Tensor]:
    """What a readout is given of videos [F, n, D] behind the prefix's rows [P, D]: states [F, n_last, D], normed."""
    schedule = model.memory_schedule
    layouts = [Layout(len(prefix), len(video), 0) for video in videos]
    rows = torch.cat([part for video in videos for part in (prefix, video.flatten(0, 1).to(prefix.dtype))])
    states, n = forward(model.decoder, schedule, layouts, rows), schedule.tokens_by_layer[-1]
    parts = torch.split(states, [layout.rows(n) for layout in layouts])
    return [torch.unflatten(part[len(prefix) :], 0, (-1, n)) for part in parts]


def frame_targets(objects: Sequence[Object]) -> tuple[Tensor, ...]:
    """What a whole frame shows, as `alignment.targets` says it of cells, [1, K]: every object has an equal share."""
    names, colours, sides, rows, poses = found = tuple(torch.zeros(1, len(words)) for words in QUESTIONS)
    for one in objects:
        left, top, right, bottom = one.box
        names[0, QUESTIONS[0].index(one.name)] += 1
        if one.colour:
            colours[0, QUESTIONS[1].index(one.colour)] += 1
        if shows_pose(one):
            poses[0, POSES.index(one.doing)] += 1
        sides[0, int(left + right > 1)] += 1
        rows[0, int(top + bottom > 1)] += 1
    if not objects:
        names[0, 0] = 1
    return tuple(part / part.sum(-1, keepdim=True).clamp_min(1e-9) for part in found)
