"""Decides where the projector starts from: the tokens of a frame stand near the words for what they show.

The language model's loss alone finds nothing in a projector drawn at random. So the projector learns first, in minutes
and without the language model's layers, that a cell with a red car in it is to be like "car" and like "red", and like
the words for where in the picture it is. What counts is the direction from the mean of all words; at the end tokens
get as far from it as words are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from standwatch.compression.merging import Projector
from standwatch.compression.readout import Readout
from standwatch.compression.tuning.examples import Object
from standwatch.compression.world import script
from standwatch.compression.world.kinds import KINDS, Role
from standwatch.compression.world.palette import COLOURS

NOTHING = "nothing"
NAMES = (NOTHING, *KINDS)
SIDES = ("left", "right")
ROWS = ("top", "bottom")
POSES = tuple(pose.value for pose in script.POSES)
# What a cell is asked: what it shows, in which colour, where, and if it is a person what that does.
QUESTIONS = (NAMES, tuple(COLOURS), SIDES, ROWS, POSES)
_WEIGHTS = (1.0, 1.0, 0.3, 0.3, 0.5)
_TOLD = {0: "cell's name", 1: "cell's colour", 4: "cell's pose"}
_EMPTY_WEIGHT = 0.25  # of a cell with nothing in it: most are
_LEAST_COVER = 0.15  # of a cell: what covers less is not shown by it
_TEMPERATURE = 0.07


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The words of QUESTIONS as a language model knows them: directions [K, D] of length 1 from the mean of all."""

    directions: tuple[Tensor, ...]
    centre: Tensor
    distance: float  # of words from the mean of all, on average


def lexicon_of(embedding: Tensor, encode: Callable[[str], Sequence[int]]) -> Lexicon:
    """From the model's embedding [V, D]; a word of several tokens is their mean, written behind a space."""
    wide = embedding.detach().float()
    centre = wide.mean(0)
    directions = (
        F.normalize(torch.stack([wide[list(encode(f" {word}"))].mean(0) for word in words]) - centre, dim=-1)
        for words in QUESTIONS
    )
    return Lexicon(tuple(directions), centre, float((wide - centre).norm(dim=-1).mean()))


def targets(objects: Sequence[Object], cells: int) -> tuple[Tensor, ...]:
    """What a frame's cells show, row by row: of each question the share of each word, [cells, K], in all 1 or 0.

    Objects share a cell by the root of how much of it their boxes cover: by the cover alone hardly anything would be
    learnt of a small thing that stands before a large one. What has no colour or pose shares none.
    """
    side = isqrt(cells)
    names, colours, sides, rows, poses = found = tuple(
        np.zeros((side, side, len(words)), np.float32) for words in QUESTIONS
    )
    for one in objects:
        left, top, right, bottom = one.box
        cover = np.outer(_overlap(top, bottom, side), _overlap(left, right, side))
        cover[cover < _LEAST_COVER] = 0
        cover = np.sqrt(cover)
        names[..., NAMES.index(one.name)] += cover
        if one.colour:
            colours[..., QUESTIONS[1].index(one.colour)] += cover
        if shows_pose(one):
            poses[..., POSES.index(one.doing)] += cover
    names[..., 0] = ~names.any(-1)
    for place in range(side):
        if 2 * place + 1 != side:  # the middle of an odd number is neither
            half = int(2 * place + 1 > side)
            sides[:, place, half] = rows[place, :, half] = 1
    return tuple(torch.from_numpy((part / part.sum(-1, keepdims=True).clip(1e-9)).reshape(cells, -1)) for part in found)


def shows_pose(one: Object) -> bool:
    return KINDS[one.name].role is Role.PERSON and one.doing in POSES


def alignment_loss(tokens: Tensor, wanted: Sequence[tuple[Tensor, ...]], lexicon: Lexicon) -> Tensor:
    """Mean cross entropy of the words' likeness to tokens [F, n, D], given the frames' `targets`."""
    pointing = F.normalize(tokens.float() - lexicon.centre, dim=-1)
    total = pointing.new_zeros(())
    for number, directions in enumerate(lexicon.directions):
        shares = torch.stack([frame[number] for frame in wanted]).to(tokens.device)
        likeness = (pointing @ directions.T / _TEMPERATURE).log_softmax(-1)
        weight = shares.sum(-1)
        if number == 0:
            weight = weight - (1 - _EMPTY_WEIGHT) * shares[..., 0]
        losses = -(shares * likeness).sum(-1)
        total = total + _WEIGHTS[number] * (losses * weight).sum() / weight.sum().clamp_min(1e-9)
    return total


def departure(tokens: Tensor, known: Tensor, wanted: Sequence[tuple[Tensor, ...]], lexicon: Lexicon) -> Tensor:
    """How far tokens [F, n, D] are from known ones of the same cells, as a mean over the cells these tell right.

    The square of the distance, of the square of how far a known token is from the mean of all words. A cell is told
    right if the name nearest to its known token has the largest share of it.
    """
    names = torch.stack([frame[0] for frame in wanted]).to(tokens.device)
    from_centre = known.float() - lexicon.centre
    nearest = (F.normalize(from_centre, dim=-1) @ lexicon.directions[0].T).argmax(-1, keepdim=True)
    told_right = names.gather(-1, nearest)[..., 0] == names.amax(-1)
    weight = told_right * torch.where(names[..., 0] > 0, _EMPTY_WEIGHT, 1.0)
    distance = (tokens.float() - known.float()).square().sum(-1) / from_centre.square().sum(-1)
    return (distance * weight).sum() / weight.sum().clamp_min(1e-9)


@torch.no_grad()
def told(tokens: Tensor, wanted: Sequence[tuple[Tensor, ...]], lexicon: Lexicon) -> dict[str, list[bool]]:
    """Of every cell of tokens [F, n, D] that shows them whether its name, colour and pose are the nearest words."""
    pointing = F.normalize(tokens.float() - lexicon.centre, dim=-1)
    found: dict[str, list[bool]] = {}
    for number, topic in _TOLD.items():
        shares = torch.stack([frame[number] for frame in wanted]).to(tokens.device)
        nearest = (pointing @ lexicon.directions[number].T).argmax(-1, keepdim=True)
        right = shares.gather(-1, nearest)[..., 0] > 0
        shows = shares.sum(-1) > 0 if number else shares[..., 0] == 0
        found[topic] = right[shows].tolist()
    return found


@torch.no_grad()
def set_distance(translator: Projector | Readout, given: Tensor, lexicon: Lexicon) -> None:
    """Move the tokens made of what is given [..., W] along their directions, to where words are, by the last layer."""
    last = translator.mlp[-1]
    assert isinstance(last, nn.Linear)
    scale = lexicon.distance / float((translator(given).float() - lexicon.centre).norm(dim=-1).mean())
    last.weight.mul_(scale)
    last.bias.sub_(lexicon.centre).mul_(scale).add_(lexicon.centre)


def _overlap(low: float, high: float, side: int) -> npt.NDArray[np.float64]:
    """Which part of each row or column, of so many, lies between two parts of the picture."""
    cells = np.arange(side)
    return (np.minimum(high * side, cells + 1) - np.maximum(low * side, cells)).clip(0)
