"""Decides which stored weight is which parameter, and what is said of those that do not fit (names of spec §13)."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

LANGUAGE = "model."  # the parts of a checkpoint, by how their names begin; the others' begin as this one's do
TOWER = "model.vision_tower.vision_tower."
PROJECTOR = "model.mm_projector."
HEAD = "lm_head.weight"  # tied to the embedding, which wins; a checkpoint may or may not repeat it
READOUT = "readout."  # of the memory of one token per frame; not in the published layout
LISTED = 20  # names of a kind that a refusal spells out

Shape: TypeAlias = tuple[int, ...]
W = TypeVar("W")
_RAW_NORM = ".encoder.norm."  # as the file calls it that vision training started from
_NORM = ".encoder.vision_layernorm."


def by_parameter(*stored: Mapping[str, W]) -> dict[str, W]:
    """Stored weights under the parameters' names, without the tied head.

    Raises ValueError if one parameter is stored twice.
    """
    found: dict[str, W] = {}
    for name, weight in ((name, weight) for part in stored for name, weight in part.items()):
        parameter = name.replace(_RAW_NORM, _NORM)
        if parameter in found:
            raise ValueError(f"weights hold {parameter} twice (once as {name}); drop one of them")
        if parameter != HEAD:
            found[parameter] = weight
    return found


def part_of(stored: Mapping[str, W], part: str) -> dict[str, W]:
    """The weights of one part, under the names that they have in it."""
    return {name.removeprefix(part): weight for name, weight in stored.items() if name.startswith(part)}


def check_layout(own: Mapping[str, Shape], found: Mapping[str, Shape]) -> None:
    """Raise one ValueError with all that is missing, unknown and misshapen, unless names and shapes are equal."""
    missing = [name for name in own if name not in found]
    unknown = [name for name in found if name not in own]
    misshapen = [
        f"{name} has shape {list(found[name])} instead of {list(own[name])}"
        for name in own
        if name in found and found[name] != own[name]
    ]
    if not (missing or unknown or misshapen):
        return
    groups = [_listed("missing", missing), _listed("unknown", unknown), _listed("misshapen:", misshapen)]
    problem = (
        f"weights do not fit the configured shape ({len(missing)} missing, {len(unknown)} unknown, "
        f"{len(misshapen)} misshapen): {'; '.join(group for group in groups if group)}"
    )
    if any(name.startswith(READOUT) for name in missing):
        problem += (
            f"; {READOUT}* turns what LP-Comp leaves of a frame into the one token that memory keeps and is no part of "
            "the published checkpoint: put the standwatch.safetensors that its training wrote beside the weights, "
            "or set model.frame_tokens=16"
        )
    raise ValueError(problem)


def _listed(kind: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{kind} {', '.join(names[:LISTED])}{more}" if names else ""
