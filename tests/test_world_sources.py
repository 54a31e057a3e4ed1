"""Where rendered worlds get their pictures from: drawings fetched once, and objects out of the bundled footage."""

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from standwatch.actors import drawings
from standwatch.actors.drawings import DrawingSet, is_cached, load_drawings, load_set
from standwatch.actors.footage import Footage, bundled, cut_footage, frames_of
from standwatch.compression.world.artwork import Appearance, Artwork
from standwatch.compression.world.camera import Camera
from standwatch.compression.world.director import still
from standwatch.compression.world.kinds import DRAWINGS, KINDS, Pose
from standwatch.pipeline.errors import BadInput, Unavailable
from tests.footage_video import draw


def archive(icons: dict[str, object]) -> bytes:
    """A package as npm would deliver it."""
    text = json.dumps(icons).encode()
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as files:
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(text)
        files.addfile(member, io.BytesIO(text))
    return held.getvalue()


ICONS: dict[str, object] = {
    "icons": {
        name: {"body": f'<rect width="{place + 1}" height="9" fill="red"/>', **({"width": 40} if name == "dog" else {})}
        for place, name in enumerate((*DRAWINGS, "unused-drawing"))
    },
    "width": 128,
    "height": 64,
}
PACKAGE = archive(ICONS)
SET = DrawingSet("@drawn/shapes", "2.0.1", base64.b64encode(hashlib.sha512(PACKAGE).digest()).decode(), "MIT")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for drawings on a machine where no package can be fetched."""
    monkeypatch.setenv("PATH", "")
    return tmp_path / "drawings"


def test_an_archive_put_there_by_hand_is_used_and_then_not_needed(offline: Path) -> None:
    offline.mkdir()
    (offline / "drawn-shapes-2.0.1.tgz").write_bytes(PACKAGE)
    found = load_set(SET, offline)
    assert set(found) == set(DRAWINGS)
    assert 'viewBox="0 0 128 64"' in found["cat"]
    assert 'viewBox="0 0 40 64"' in found["dog"]
    (offline / "drawn-shapes-2.0.1.tgz").unlink()
    assert load_set(SET, offline) == found


def test_what_a_set_lacks_or_draws_as_something_else_another_draws(offline: Path) -> None:
    other = {name: f"<svg>{name}</svg>" for name in DRAWINGS}
    offline.mkdir()
    (offline / drawings.SETS["twemoji"].kept).write_text(json.dumps(other))
    body = '<circle r="4"/>'
    package = archive({"icons": {name: {"body": body} for name in ("bus", "cat", "dog")}})
    sha512 = base64.b64encode(hashlib.sha512(package).digest()).decode()
    part = DrawingSet("@drawn/part", "1.0.0", sha512, "MIT", instead="twemoji", unlike=frozenset({"cat"}))
    (offline / part.archive).write_bytes(package)
    found = load_set(part, offline)
    assert {name for name, svg in found.items() if body in svg} == {"bus", "dog"}
    assert {name: svg for name, svg in found.items() if body not in svg} == {
        name: svg for name, svg in other.items() if name not in ("bus", "dog")
    }
    assert load_set(part, offline) == found, "from what was kept"


def test_what_is_not_the_published_archive_is_refused(offline: Path) -> None:
    offline.mkdir()
    (offline / "drawn-shapes-2.0.1.tgz").write_bytes(PACKAGE + b"\0")
    with pytest.raises(BadInput, match=r"drawings: .*drawn-shapes-2\.0\.1\.tgz is not @drawn/shapes 2\.0\.1"):
        load_set(SET, offline)
    assert [path.suffix for path in offline.iterdir()] == [".tgz"], "nothing of it was kept"


def test_without_npm_the_message_says_what_to_do(offline: Path) -> None:
    with pytest.raises(Unavailable) as refusal:
        load_set(SET, offline)
    assert "install Node.js" in str(refusal.value)
    assert "npm pack @drawn/shapes@2.0.1" in str(refusal.value)
    assert str(offline / "drawn-shapes-2.0.1.tgz") in str(refusal.value)


def test_where_npm_fails_its_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no route to the registry' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    told: list[str] = []
    with pytest.raises(Unavailable, match=r"@drawn/shapes \(no route to the registry\); check the network"):
        load_set(SET, tmp_path / "drawings", told.append)
    assert told == ["fetching drawings: @drawn/shapes 2.0.1 (MIT)"]


def test_what_npm_brings_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package.tgz").write_bytes(PACKAGE)
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\n[ "$1 $2" = "pack @drawn/shapes@2.0.1" ] && cp {tmp_path}/package.tgz {SET.archive}\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert set(load_set(SET, tmp_path / "drawings")) == set(DRAWINGS)
    assert [path.name for path in (tmp_path / "drawings").iterdir()] == [SET.kept]


@pytest.mark.parametrize("damage", ["", "{", '{"dog": "<svg/>"}'])
def test_a_damaged_or_older_cache_is_made_anew(offline: Path, damage: str) -> None:
    offline.mkdir()
    (offline / SET.kept).write_text(damage)
    (offline / SET.archive).write_bytes(PACKAGE)
    assert set(load_set(SET, offline)) == set(DRAWINGS)


def test_an_unknown_set_is_refused() -> None:
    sets = "fluent-emoji, fluent-emoji-flat, twemoji, emojione, streamline-emojis, fxemoji, noto"
    with pytest.raises(BadInput, match=f"style: 'crayon' is no set of drawings; choose one of {sets}"):
        load_drawings("crayon")


def test_frames_are_those_of_the_part_that_was_asked_for(tmp_path: Path) -> None:
    video = draw(tmp_path / "film.mp4", seconds=10)
    whole, first, last = (frames_of(video, 2, part) for part in ((0.0, 1.0), (0.0, 0.5), (0.5, 1.0)))
    assert (len(whole), len(first), len(last)) == (20, 10, 10)
    assert all(np.array_equal(one, other) for one, other in zip(whole, (*first, *last), strict=True))
    assert whole[0].shape == (36, 64, 3)
    with pytest.raises(BadInput, match=r"part: \(0.5, 0.5\) is no part"):
        frames_of(video, 2, (0.5, 0.5))


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(BadInput, match="source:"):
        cut_footage([Footage(tmp_path / "notes.mp4", "person")])


def test_the_bundled_footage_gives_people_bottles_and_two_empty_places() -> None:
    people, bottles = bundled()
    cutouts, places = cut_footage([Footage(people.path, "person", place="room", fps=0.5), bottles])
    names = [cutout.name for cutout in cutouts]
    assert names.count("person") > 10
    assert names.count("bottle") > 20
    for cutout in cutouts:
        height, width = cutout.rgba.shape[:2]
        assert 1.4 < height / width < 5
        assert (cutout.rgba[..., 3] > 128).mean() > 0.3
    assert set(places) == {"room", "table"}
    assert places["room"][60:120, 150:250].mean() > 150, "a white wall"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(drawings.SETS))
def test_every_drawing_of_a_fetched_set_shows_something_in_every_colour(name: str) -> None:
    if not is_cached(name):
        pytest.skip(f"{name} has not been fetched")
    art = Artwork(load_drawings(name))
    for kind in KINDS.values():
        for look in range(len(kind.looks)):
            for colour in kind.colours or ("",):
                for pose in Pose:
                    seen = Appearance(kind, look, pose, colour, 90, mirrored=False, turned=0)
                    sprite = art.sprite(seen)
                    assert sprite.solid.mean() > 0.15, seen
                    assert sprite.colour.max() > 40, seen


@pytest.mark.slow
def test_the_truth_does_not_depend_on_the_style() -> None:
    if not all(is_cached(name) for name in drawings.SETS):
        pytest.skip("the sets have not been fetched")
    styles = [Artwork(load_drawings(name)) for name in drawings.SETS]
    for seed in range(5):
        scene = still(seed, "yard", 4)
        seen = [Camera(scene, style).seen(0) for style in styles]
        facts = [[(s.name, s.colour, s.zones, s.doing) for s in one] for one in seen]
        assert all(one == facts[0] for one in facts)
        assert facts[0] != []
