"""Sprites: drawings painted in named colours, and objects cut out of a video."""

import colorsys

import numpy as np
import numpy.typing as npt
import pytest

from standwatch.compression.world.artwork import Appearance, Artwork, Cutout
from standwatch.compression.world.cutouts import bright_background, cut_out, returning_background
from standwatch.compression.world.kinds import DRAWINGS, KINDS, Pose
from standwatch.compression.world.palette import COLOURS, PAINTS, from_hsv, repaint, to_hsv
from standwatch.compression.world.redrawing import redrawn
from tests.drawn_world import PLAIN, plain_svgs

UInt8Array = npt.NDArray[np.uint8]


def patch(*colour: int, height: int = 20, width: int = 20) -> UInt8Array:
    return np.full((height, width, 4), (*colour, 255), np.uint8)


def upright(name: str = "person", pose: Pose = Pose.STANDING, look: int = 0, turned: int = 0) -> Appearance:
    return Appearance(KINDS[name], look, pose, "", 100, mirrored=False, turned=turned)


def test_hue_saturation_and_value_are_those_of_the_standard_library() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (200, 3)).astype(np.uint8)
    hue, saturation, value = to_hsv(colours)
    for row, colour in enumerate(colours / 255):
        expected = colorsys.rgb_to_hsv(*colour)
        assert (hue[row] / 360 % 1, saturation[row], value[row]) == pytest.approx(expected, abs=1e-5)
    assert np.abs(from_hsv(hue, saturation, value).astype(int) - colours).max() <= 1


@pytest.mark.parametrize("colour", COLOURS)
def test_what_fills_most_of_a_drawing_gets_the_colour_and_the_rest_keeps_its_own(colour: str) -> None:
    drawing = np.concatenate((patch(30, 90, 200), patch(220, 160, 20, height=4), patch(128, 128, 128, height=4)))
    painted = repaint(drawing, colour, spare_skin=False)
    paint = PAINTS[colour]
    hue, saturation, value = to_hsv(painted[:20, :, :3])
    assert saturation.mean() == pytest.approx(paint.saturation, abs=0.05)
    assert value.mean() == pytest.approx(paint.value, abs=0.05)
    if paint.saturation:
        assert abs((hue.mean() - paint.hue + 180) % 360 - 180) < 4
    assert np.array_equal(painted[20:], drawing[20:])
    assert np.array_equal(painted[..., 3], drawing[..., 3])


def test_shading_stays() -> None:
    drawing = np.concatenate((patch(200, 0, 0), patch(100, 0, 0)))
    painted = repaint(drawing, "blue", spare_skin=False).astype(int)
    assert painted[0, 0, 2] > 1.5 * painted[-1, 0, 2]


def test_skin_is_spared_where_asked() -> None:
    person = np.concatenate((patch(250, 190, 40, height=40), patch(40, 60, 220)))
    assert np.array_equal(repaint(person, "green", spare_skin=True)[:40], person[:40])
    assert not np.array_equal(repaint(person, "green", spare_skin=False)[:40], person[:40])


def test_a_grey_drawing_cannot_be_painted() -> None:
    with pytest.raises(ValueError, match="picture: no pixel of it has a hue"):
        repaint(patch(90, 90, 90), "red", spare_skin=False)


def test_a_style_needs_every_drawing() -> None:
    svgs = plain_svgs()
    del svgs["fire"]
    with pytest.raises(ValueError, match="svgs: 1 drawings are missing, the first is 'fire'"):
        Artwork(svgs)
    with pytest.raises(ValueError, match="svgs: 'fire' draws nothing"):
        empty = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"></svg>'
        Artwork({**svgs, "fire": empty}).sprite(upright("fire"))


def test_a_sprite_is_as_high_as_asked_and_lower_where_the_pose_is() -> None:
    standing, kneeling = PLAIN.sprite(upright()), PLAIN.sprite(upright(pose=Pose.KNEELING))
    assert (standing.height, standing.width) == (100, 50)
    assert kneeling.height == 76
    assert PLAIN.sprite(upright(turned=90)).width == pytest.approx(100, abs=2)
    assert standing.solid_px == standing.solid.sum() == 5_000


def test_each_hand_draws_the_same_things_in_a_way_of_its_own() -> None:
    looks = [art.sprite(upright("car")) for art in (PLAIN, *(PLAIN.by_hand(hand) for hand in "abcdefgh"))]
    again = PLAIN.by_hand("c").sprite(upright("car"))
    assert np.array_equal(again.colour, looks[3].colour)
    assert len({look.colour.tobytes() for look in looks}) == len(looks)
    assert {look.height for look in looks} == {100}
    for look in looks:
        assert 0.6 < look.width / looks[0].width < 1.6
        assert 0.5 < look.solid.mean() <= 1  # a rectangle still fills most of its box


def test_what_is_hardly_opaque_can_be_drawn_anew() -> None:
    faint = patch(200, 40, 40, height=60, width=40)
    faint[..., 3] = 60
    again = redrawn(faint, "anything")
    assert again.shape[0] == 60 + 2 * 24
    assert again[..., 3].max() >= 60


def test_laying_a_sprite_over_follows_its_cover() -> None:
    sprite = PLAIN.sprite(upright())
    under = np.full((*sprite.solid.shape, 3), 200, np.uint16)
    over = sprite.colour + (under * sprite.through >> 8)
    assert np.array_equal(over[50, 25], sprite.colour[50, 25])
    assert over.max() <= 255


def test_every_other_look_is_a_cut_out_where_there_are_any() -> None:
    cutouts = [Cutout("bottle", patch(shade, shade, shade, height=60)) for shade in (10, 250)]
    art = Artwork(plain_svgs(), cutouts)
    tones = [int(art.sprite(upright("bottle", look=look)).colour[50, 10].mean()) for look in range(4)]
    assert tones[1] < 20
    assert tones[3] > 240
    assert tones[0] == tones[2] == int(PLAIN.sprite(upright("bottle")).colour[50, 10].mean())
    assert not art.is_painted(KINDS["bottle"], 1)
    assert art.sprite(upright("cat", look=1)) is not None


def test_all_drawings_are_used_and_named_once() -> None:
    looks = [drawing for kind in KINDS.values() for look in kind.looks for drawing in look]
    assert sorted(set(looks)) == list(DRAWINGS)
    assert 50 <= len(KINDS) <= 70
    assert {name for kind in KINDS.values() for name in kind.also} <= set(KINDS)


def wall(noise: np.random.Generator) -> UInt8Array:
    """A textured wall that a camera sees a little differently each time."""
    texture = np.random.default_rng(7).integers(150, 170, (30, 40, 3)).repeat(8, 0).repeat(8, 1)
    return np.asarray(np.clip(texture + noise.normal(0, 2, texture.shape), 0, 255).astype(np.uint8))


def visits() -> tuple[list[UInt8Array], list[tuple[int, int, int, int]]]:
    """Three visitors, each standing there for longer than the place is empty; and their boxes."""
    noise = np.random.default_rng(3)
    frames, boxes = [], []
    for left, colour in ((80, (200, 30, 30)), (95, (20, 20, 20)), (110, (30, 30, 200))):
        frames += [wall(noise) for _ in range(4)]
        for _ in range(9):
            frame = wall(noise)
            frame[60:180, left : left + 50] = colour
            frames.append(frame)
            boxes.append((left, 60, left + 50, 180))
    return frames, boxes


def test_the_place_that_returns_is_the_background_however_long_visitors_stand() -> None:
    frames, _ = visits()
    empty = wall(np.random.default_rng(99)).astype(int)
    background = returning_background(frames).astype(int)
    assert np.abs(background - empty).mean() < 3
    median = np.median(np.stack(frames), axis=0)
    assert np.abs(median[100, 120] - empty[100, 120]).max() > 60, "the plain median would show somebody"


def test_visitors_are_cut_out_whole_with_their_own_pixels() -> None:
    frames, boxes = visits()
    found = cut_out(frames, returning_background(frames), "person")
    assert len(found) == len(boxes)
    for cutout in found:
        solid = cutout.rgba[..., 3] > 128
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        assert rows[-1] - rows[0] == pytest.approx(120, abs=6)
        assert columns[-1] - columns[0] == pytest.approx(50, abs=6)
        assert cutout.rgba[solid][:, :3].std(0).max() < 40, "one colour, and hardly any wall"
        assert cutout.rgba[[0, -1]][..., 3].max() == 0


@pytest.mark.parametrize(("top", "left"), [(0, 100), (60, 0), (140, 100), (60, 270)])
def test_what_the_border_cuts_off_is_no_object(top: int, left: int) -> None:
    noise = np.random.default_rng(3)
    frame = wall(noise)
    frame[top : top + 100, left : left + 50] = (200, 30, 30)
    assert cut_out([frame], wall(noise), "person") == []


def test_a_change_of_exposure_is_no_object() -> None:
    noise = np.random.default_rng(3)
    brighter = np.clip(wall(noise).astype(float) * 1.25, 0, 255).astype(np.uint8)
    assert cut_out([brighter], wall(noise), "person") == []


def test_a_bright_wall_is_found_behind_what_nearly_always_stands_before_it() -> None:
    noise = np.random.default_rng(5)
    frames = []
    for number in range(40):
        frame = wall(noise)
        if number % 20:
            frame[60:180, 100:140] = (60, 80, 120)
            frame[70:74, 105:109] = 255
        frames.append(frame)
    background = bright_background(frames).astype(int)
    assert np.abs(background - wall(noise)).mean() < 8
    assert background[70:74, 105:109].max() < 200, "a reflection is not the wall"


def test_no_frames_are_no_background() -> None:
    with pytest.raises(ValueError, match="frames: none was given"):
        returning_background([])
    with pytest.raises(ValueError, match="frames: none was given"):
        bright_background([])
