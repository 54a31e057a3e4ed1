"""Moments hidden among frames of other scenes: where they are, what is asked, what may not be asked."""

import random
import re
from dataclasses import replace

import pytest
import torch

from standwatch.compression.tuning.examples import Example, Object
from standwatch.compression.tuning.hiding import hidden
from standwatch.compression.tuning.quiz import Asked
from standwatch.compression.tuning.quiz_claims import Topic

FRAMES = 64
BOX = (0.1, 0.1, 0.4, 0.4)
LEFT = Asked(Topic.EVENT, "Did a dog leave the picture?", "Yes.", True, (2,))


def scene(number: int, *kinds: str, frames: int = 4, asked: tuple[Asked, ...] = (), context: int = 0) -> Example:
    """Every frame shows these kinds. Features say which scene and frame they are of."""
    features = torch.arange(context + frames).float()[:, None, None].expand(-1, 2, 3) + 1000 * number
    objects = tuple(Object(kind, "", BOX) for kind in kinds)
    times = tuple(500 * frame for frame in range(context + frames))
    return Example(features, times, (objects,) * (context + frames), asked, f"scene {number}", context)


def segments(pool: list[Example], of: int = 40, frames: int = FRAMES) -> list[Example]:
    return [hidden(pool, random.Random(f"segment {number}"), frames) for number in range(of)]


def shows(segment: Example, kind: str) -> tuple[int, ...]:
    return tuple(at for at, frame in enumerate(segment.objects) if kind in {one.name for one in frame})


def test_a_segment_is_filled_with_whole_scenes_and_their_truth() -> None:
    pool = [scene(number, kind, frames=8) for number, kind in enumerate(("cat", "bus", "ball", "duck") * 4)]
    for segment in segments(pool, 5):
        assert len(segment.features) == len(segment.times_ms) == len(segment.objects) == FRAMES
        for start in range(0, FRAMES, 8):
            number = int(segment.features[start, 0, 0]) // 1000
            assert segment.features[start : start + 8, 0, 0].tolist() == [1000.0 * number + at for at in range(8)]
            assert segment.objects[start : start + 8] == pool[number].objects
        assert len({int(first) // 1000 for first in segment.features[::8, 0, 0].tolist()}) == 8, "none stands twice"


def test_evidence_of_presence_is_every_frame_that_shows_the_kind_and_no_other() -> None:
    kinds = ("rabbit", "bus", "drum", "duck", "sheep", "guitar")
    pool = [scene(number, kind, frames=3 + number) for number, kind in enumerate(kinds)]
    found = [(segment, one) for segment in segments(pool) for one in segment.asked if one.topic is Topic.PRESENCE]
    yes = [(segment, one) for segment, one in found if one.verdict]
    assert {kind for kind in kinds for _, one in yes if kind in one.question.lower()} == set(kinds)
    for segment, one in yes:
        (kind,) = (kind for kind in kinds if kind in one.question.lower())
        assert one.evidence == shows(segment, kind)
    assert len(yes) == sum(one.verdict is False for _, one in found), "balanced"
    for _, one in found:
        if one.verdict is False:
            assert not any(kind in one.question.lower() for kind in kinds) and not one.evidence
            assert one.answer == "No."


def test_frames_before_a_window_are_left_out() -> None:
    pool = [scene(0, "cat", context=5), scene(1, "bus")]
    for segment in segments(pool, 10):
        assert segment.features[shows(segment, "bus")[0], 0, 0] >= 1000
        assert segment.features[shows(segment, "cat")[0], 0, 0] == 5.0
        assert segment.context == 0


def test_what_happened_is_asked_where_it_was_and_denied_where_nothing_like_it_is() -> None:
    here = scene(0, "dog", frames=20, asked=(LEFT,))
    bus = Asked(Topic.EVENT, "Did a bus stop?", "Yes.", True, (0, 1))
    others = (scene(2, "drum", frames=40), scene(3, "ladder", frames=8))
    pool = [here, scene(1, "bus", frames=40, asked=(bus,)), *others]
    verdicts: dict[str, set[bool | None]] = {}
    for segment in segments(pool):
        for one in segment.asked:
            if one.topic is Topic.EVENT:
                verdicts.setdefault(one.question, set()).add(one.verdict)
                if one.question == LEFT.question and one.verdict:
                    assert one.evidence == (shows(segment, "dog")[2],)
                if not one.verdict:
                    assert not one.evidence and one.answer == "No."
                    assert not shows(segment, "dog" if "dog" in one.question else "bus")
    assert verdicts == {LEFT.question: {True, False}, bus.question: {True, False}}


def test_a_scene_with_something_alike_never_stands_beside_what_happened() -> None:
    """Another animal may have left too: 'Did an animal leave?' would have other frames to look at."""
    pool = [scene(0, "dog", asked=(LEFT,)), *(scene(number, "cat") for number in range(1, 9)), scene(9, "ball")]
    asked = [(segment, one) for segment in segments(pool) for one in segment.asked if one.topic is Topic.EVENT]
    assert asked
    assert not any(shows(segment, "cat") for segment, _ in asked)


def test_what_happened_to_anything_at_all_is_not_asked() -> None:
    anything = Asked(Topic.EVENT, "Something left the picture, right?", "Yes.", True, (1,))
    pool = [scene(0, "dog", asked=(anything,)), scene(1, "ball")]
    assert not any(one.topic is Topic.EVENT for segment in segments(pool) for one in segment.asked)


def people(number: int, *doing: str) -> Example:
    """A scene of somebody who does this in one frame after the other."""
    one = scene(number, frames=len(doing))
    return replace(one, objects=tuple((Object("person", "red", BOX, each),) for each in doing))


def fell(segment: Example) -> list[Asked]:
    return [one for one in segment.asked if one.topic is Topic.EVENT]


def test_whether_anyone_fell_is_asked_among_people_who_stand_and_walk() -> None:
    """By hand: the frames of the fallen scene in which she falls, lies and gets up are the evidence."""
    fallen = people(0, "walking", "falling", "lying", "getting up", "standing")
    pool = [fallen, *(people(number, "standing", "walking", "kneeling", "running") for number in range(1, 9))]
    verdicts = set()
    for segment in segments(pool, frames=16):
        starts = [at for at, first in enumerate(segment.features[:, 0, 0].tolist()) if first == 0.0]
        assert fell(segment)
        for one in fell(segment):
            assert one.verdict is bool(starts)
            assert one.evidence == tuple(start + after for start in starts for after in (1, 2, 3))
            verdicts.add(one.verdict)
    assert verdicts == {True, False}


def test_whether_anyone_fell_is_not_asked_where_that_is_not_known_or_nobody_is_there() -> None:
    things = [scene(10 + number, kind) for number, kind in enumerate(("bus", "drum"))]
    unknown = [people(number, "standing", "") for number in range(4)]
    lying = [people(number, "lying", "lying", "standing") for number in range(4)]
    asked = {
        name: [one.verdict for segment in segments([*pool, *things], frames=8) for one in fell(segment)]
        for name, pool in (("nobody", things), ("unknown", unknown), ("lying", lying))
    }
    assert not asked["nobody"] and not asked["unknown"]
    assert set(asked["lying"]) == {True}


def test_what_came_or_went_first_is_what_the_frames_show() -> None:
    """By hand: what comes at frame 3 came before what comes at 4, and before what went behind 3."""
    kinds = ("rabbit", "bus", "drum", "duck", "sheep", "guitar")
    pool = [scene(number, kind, frames=1 + number % 3) for number, kind in enumerate(kinds)]
    said: set[str] = set()
    for segment in segments(pool, frames=8):
        for one in (one for one in segment.asked if one.topic is Topic.ORDER):
            moments = [
                (shows(segment, kind)[0] if happened == "came into view" else shows(segment, kind)[-1] + 1, clause)
                for kind in kinds
                for happened in ("came into view", "went out of view")
                if (clause := f"a {kind} {happened}") in one.question.lower()
            ]
            (first, earlier), (second, later) = sorted(moments)
            assert 0 < first < second < len(segment.objects), "what stands at either end came or went unseen"
            for (at, clause), (words, frames) in zip(sorted(moments), one.clauses, strict=True):
                assert words == clause and set(frames) <= {at - 1, at} and set(frames) <= set(one.evidence)
            asked = one.question.lower()
            turned = bool(re.search("view after|but before that", asked))  # the later one is named first
            asked_so = (asked.index(earlier) < asked.index(later)) is not turned
            words = f"First {earlier}, then {later}."
            assert one.answer == (words if one.verdict is None else "Yes." if asked_so else "No.")
            said.add(one.answer if one.verdict is not None else f"words {asked_so}")
    assert said == {"Yes.", "No.", "words True", "words False"}


def test_what_comes_twice_or_is_also_called_the_other_is_not_put_in_order() -> None:
    pool = [scene(number, kind, frames=1) for number, kind in enumerate(("dog", "cat", "dog", "bus"))]
    again = [one for segment in segments(pool, frames=4) for one in segment.asked if one.topic is Topic.ORDER]
    between = [one for one in again if "dog" in one.question.lower()]
    assert again
    for segment in segments(pool, frames=4):
        if shows(segment, "dog")[1] - shows(segment, "dog")[0] > 1:
            assert not any("dog" in one.question.lower() for one in segment.asked if one.topic is Topic.ORDER)
    assert between, "twice in frames without a gap is once"
    taxi = [scene(number, kind, frames=1) for number, kind in enumerate(("drum", "taxi", "car", "bus"))]
    for segment in segments(taxi, frames=4):
        for one in segment.asked:
            assert not (one.topic is Topic.ORDER and "taxi" in one.question.lower() and "car" in one.question.lower())


def test_scenes_that_show_nothing_or_are_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="pool: nothing in its scenes can be asked for; take more scenes"):
        hidden([scene(0), scene(1)], random.Random(0), 8)
    with pytest.raises(ValueError, match="pool: no scene has 3 frames or less"):
        hidden([scene(0, "dog")], random.Random(0), 3)
