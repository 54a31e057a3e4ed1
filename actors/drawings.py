"""Fetches the named sets of drawings that rendered worlds are made of, once, and keeps what is used of them.

They come from npm packages by exact version, through npm where it is installed; what does not have the expected hash
is refused, and nothing of a package is run.
"""

import base64
import hashlib
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.request import urlopen

from standwatch.compression.world.kinds import DRAWINGS
from standwatch.configs.load import cache_folder
from standwatch.pipeline.errors import BadInput, Unavailable

_TIMEOUT_S = 600.0
_CONNECT_S = 30.0
_REGISTRY = "https://registry.npmjs.org"


@dataclass(frozen=True, slots=True)
class DrawingSet:
    """One set of drawings, as published."""

    package: str
    version: str
    sha512: str  # of the package's archive, base64
    licence: str
    instead: str = ""  # the set that draws what this one lacks
    unlike: frozenset[str] = frozenset()  # what it draws too unlike its name: a crane, a face without a body

    @property
    def archive(self) -> str:
        """The file name that npm gives the package."""
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def kept(self) -> str:
        """The file name of what is kept of it."""
        return self.archive.removesuffix(".tgz") + ".json"


TRAINING = "fluent-emoji"
UNSEEN = "noto"  # kept for tests in a style that nothing was trained on
SETS = {
    TRAINING: DrawingSet(
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        "MIT",
    ),
    "fluent-emoji-flat": DrawingSet(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        "MIT",
    ),
    "twemoji": DrawingSet(
        "@iconify-json/twemoji",
        "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        "CC-BY-4.0",
    ),
    "emojione": DrawingSet(
        "@iconify-json/emojione",
        "1.2.3",
        "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        "CC-BY-4.0",
        instead="fluent-emoji-flat",
        # Seen from the other side, with somebody on it, of no colour and of many.
        unlike=frozenset({"articulated-lorry", "fire-engine", "motorcycle", "oil-drum", "umbrella"}),
    ),
    "streamline-emojis": DrawingSet(
        "@iconify-json/streamline-emojis",
        "1.2.4",
        "iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
        "CC-BY-4.0",
        instead="fxemoji",
    ),
    "fxemoji": DrawingSet(
        "@iconify-json/fxemoji",
        "1.2.2",
        "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        "Apache-2.0",
        instead="twemoji",
        # Faces without a body; a crane.
        unlike=frozenset({"bird", "cat", "construction", "dog", "pig"}),
    ),
    UNSEEN: DrawingSet(
        "@iconify-json/noto",
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "Apache-2.0",
    ),
}


def load_drawings(
    name: str, folder: Path | None = None, tell: Callable[[str], None] = lambda _: None
) -> dict[str, str]:
    """SVG text by the name of the drawing, all of `kinds.DRAWINGS`; fetched where it is not in the cache yet.

    Raises `BadInput` for a set that there is none of or an archive that is not the expected one, `Unavailable` where
    it cannot be fetched; that message says what to do without a network.
    """
    if name not in SETS:
        raise BadInput(f"style: {name!r} is no set of drawings; choose one of {', '.join(SETS)}")
    return load_set(SETS[name], folder or cache_folder() / "drawings", tell)


def load_set(wanted: DrawingSet, folder: Path, tell: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """The same of any set, kept in this folder."""
    kept = folder / wanted.kept
    found = _kept(kept)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        found = _used(_archive(wanted, folder, tell), wanted.unlike)
        if wanted.instead:
            found = load_set(SETS[wanted.instead], folder, tell) | found
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, delete=False) as unfinished:
            json.dump(found, unfinished)
        Path(unfinished.name).replace(kept)
    return found


def is_cached(name: str, folder: Path | None = None) -> bool:
    """Whether a set can be loaded without a network."""
    return _kept((folder or cache_folder() / "drawings") / SETS[name].kept) is not None


def _kept(path: Path) -> dict[str, str] | None:
    """What was kept, if it is all that is used today."""
    try:
        found = cast(dict[str, str], json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None
    return found if set(found) >= set(DRAWINGS) else None


def _archive(wanted: DrawingSet, folder: Path, tell: Callable[[str], None]) -> bytes:
    """The package's archive: from the folder, where somebody put it there, else from npm."""
    by_hand = folder / wanted.archive
    if by_hand.is_file():
        return _checked(by_hand.read_bytes(), wanted, str(by_hand))
    tell(f"fetching drawings: {wanted.package} {wanted.version} ({wanted.licence})")
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", f"{wanted.package}@{wanted.version}", "--ignore-scripts", "--silent"]
        offline = f"or fetch it elsewhere with `npm pack {wanted.package}@{wanted.version}` and put it at {by_hand}"
        try:
            done = subprocess.run(
                command, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
            )
        except FileNotFoundError:
            return _checked(_downloaded(wanted, offline), wanted, wanted.package)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"drawings: npm took more than {_TIMEOUT_S:g} s; try again, {offline}") from None
        fetched = Path(scratch) / wanted.archive
        if done.returncode != 0 or not fetched.is_file():
            said = done.stderr.decode("utf-8", "replace").strip()[-300:] or f"it ended with code {done.returncode}"
            raise Unavailable(f"drawings: npm could not fetch {wanted.package} ({said}); check the network, {offline}")
        return _checked(fetched.read_bytes(), wanted, wanted.package)


def _downloaded(wanted: DrawingSet, offline: str) -> bytes:
    """The archive from the public registry, where there is no npm that would know of another."""
    url = f"{_REGISTRY}/{wanted.package}/-/{wanted.package.split('/')[-1]}-{wanted.version}.tgz"
    try:
        with urlopen(url, timeout=_CONNECT_S) as answer:
            return bytes(answer.read())
    except OSError as error:  # of URL, connection and time limit alike
        raise Unavailable(
            f"drawings: npm is not installed, and {url} cannot be had ({error}); install Node.js, {offline}"
        ) from None


def _checked(data: bytes, wanted: DrawingSet, origin: str) -> bytes:
    found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != wanted.sha512:
        raise BadInput(
            f"drawings: {origin} is not {wanted.package} {wanted.version} as published (sha512 {found}); remove it"
        )
    return data


def _used(archive: bytes, unlike: frozenset[str]) -> dict[str, str]:
    """The drawings that are used, as SVG documents, as far as the archive has them."""
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:gz") as files:
            member = files.extractfile("package/icons.json")
            assert member is not None, "the archive's hash is that of one that has it"
            icons = json.load(member)
    found = {}
    for name in DRAWINGS:
        icon = icons["icons"].get(name)
        if icon is None or name in unlike:
            continue
        size = [icon.get(side, icons.get(side, 16)) for side in ("width", "height")]
        head = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        found[name] = f'<svg {head} viewBox="0 0 {size[0]} {size[1]}">{icon["body"]}</svg>'
    return found
