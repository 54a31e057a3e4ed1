"""Decides what a person sees of alerts in a browser: a page of files that shows itself anew, and needs no server."""

import hashlib
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from standwatch.pipeline.answers import top_frames
from standwatch.pipeline.clock import rfc3339, time_of_day
from standwatch.pipeline.errors import BadInput, Unavailable
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.types import Alert, Transition, Window

MOST_ALERTS = 100  # the page and its pictures stay this small however long the run
MOST_PICTURES = 6  # of one alert: a row on a screen
_REFRESH_S = 3
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
article { border-left: 6px solid #8888; margin: 1.2rem 0; padding: .2rem 1rem; }
article.open { border-color: #d33; }
h2 { font-size: 1.15rem; margin: 0; overflow-wrap: anywhere; }
p, blockquote { margin: .2rem 0; overflow-wrap: anywhere; }
blockquote { font-style: italic; }
.strip { display: flex; flex-wrap: wrap; gap: .5rem; margin: .6rem 0; }
figure { margin: 0; font-size: .8rem; text-align: center; }
img { display: block; border-radius: 4px; }
.note { opacity: .7; }
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame's thumbnail: a file that lies beside the page."""

    name: str
    frame_ms: int


@dataclass(frozen=True, slots=True)
class ShownAlert:
    """An alert as it opened, the last that was heard of it, and what it was opened for."""

    opened: Alert
    last: Alert
    pictures: tuple[Picture, ...]


class AlertPage:
    """`alerts.html` in a folder of its own, with the stored JPEGs beside it: alerts with what the camera saw.

    A JPEG is copied when its alert opens, so that it stays when memory forgets the frame; none is shown that is not
    the one the alert names by its hash. The page is replaced whole, so that a browser never sees half of it.
    """

    def __init__(self, folder: Path, memory: str) -> None:
        """Write the page without alerts yet. Raises `BadInput` when there is no memory."""
        self._memory = MemoryReader(memory)
        self._folder = folder
        self._shown: dict[str, ShownAlert] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._write(ended=False)

    @property
    def path(self) -> Path:
        return self._folder / "alerts.html"

    def add(self, alert: Alert) -> None:
        """Show an alert that opened, or what became of it. One told again, or not seen to open, changes nothing."""
        known = self._shown.get(alert.alert_id)
        if known is None and alert.transition is Transition.OPENED:
            self._shown[alert.alert_id] = ShownAlert(alert, alert, self._pictures(alert))
            self._forget_oldest()
        elif known is not None and alert.revision > known.last.revision:
            self._shown[alert.alert_id] = ShownAlert(known.opened, alert, known.pictures)
        else:
            return
        self._write(ended=False)

    def end(self) -> None:
        """The run is over: the page stays as it is and no longer looks for more."""
        self._memory.close()
        self._write(ended=True)

    def _pictures(self, alert: Alert) -> tuple[Picture, ...]:
        """The alert's best frames in the order of time, as far as memory has their pictures."""
        frames = sorted({frame.frame_ms: frame for frame in alert.evidence}.values(), key=lambda f: f.frame_ms)
        best = top_frames(np.array([frame.score for frame in frames], np.float32), MOST_PICTURES)
        chosen = [frames[int(place)] for place in best]
        if not chosen:
            return ()
        at = np.array([frame.frame_ms for frame in chosen], np.int64)
        try:
            held = self._memory.evidence(
                alert.feed_id, Window(int(at[0]), int(at[-1]) + 1), at, np.zeros(len(at), np.float32)
            )
        except (BadInput, Unavailable):  # forgotten meanwhile; the alert stands without
            return ()
        pictures = []
        for frame, jpeg in zip(chosen, held.thumbnails, strict=True):
            if hashlib.sha256(jpeg).hexdigest() != frame.thumbnail_sha256:
                continue
            # Memory knows the feed, so that its name is one that `check_feed_id` let through: fit for a file's name.
            name = f"{alert.feed_id}-{rfc3339(frame.frame_ms).replace(':', '')}.jpg"
            (self._folder / name).write_bytes(jpeg)
            pictures.append(Picture(name, frame.frame_ms))
        return tuple(pictures)

    def _forget_oldest(self) -> None:
        if len(self._shown) <= MOST_ALERTS:
            return
        oldest = min(self._shown.values(), key=lambda shown: shown.opened.observed_ms)
        del self._shown[oldest.opened.alert_id]
        used = {picture.name for shown in self._shown.values() for picture in shown.pictures}
        for picture in oldest.pictures:
            if picture.name not in used:
                (self._folder / picture.name).unlink(missing_ok=True)

    def _write(self, ended: bool) -> None:
        newest_first = sorted(self._shown.values(), key=lambda shown: shown.opened.observed_ms, reverse=True)
        unfinished = self.path.with_name(self.path.name + ".unfinished")
        # Half a surrogate pair, which JSON can carry and UTF-8 cannot, becomes a reference.
        unfinished.write_bytes(render_page(newest_first, ended).encode("utf-8", "xmlcharrefreplace"))
        unfinished.replace(self.path)


def render_page(alerts: list[ShownAlert], ended: bool) -> str:
    """The page as HTML; nothing that an alert says becomes markup. Unless `ended` it loads itself every few seconds."""
    still_open = sum(shown.last.transition is not Transition.CLOSED for shown in alerts)
    coming = f"This page looks for more every {_REFRESH_S} seconds."
    note = "The run is over; this is what it saw." if ended else coming
    lines = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        "" if ended else f'<meta http-equiv="refresh" content="{_REFRESH_S}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{still_open} open - Standwatch</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f'<h1>Alerts</h1>\n<p class="note">{len(alerts)} shown, {still_open} of them open; newest first. {note}</p>',
        *[_article(shown) for shown in alerts],
        "</body>\n</html>\n",
    ]
    return "\n".join(line for line in lines if line)


def _article(shown: ShownAlert) -> str:
    opened, closed = shown.opened, shown.last.transition is Transition.CLOSED
    at = f'<time datetime="{rfc3339(opened.observed_ms)}">{_day(opened.observed_ms)} UTC</time>'
    said = f"{escape(opened.verdict.value)}, probability {opened.probability:.2f}; {_state(shown.last)}"
    lines = [
        f'<article class="{"closed" if closed else "open"}">',
        f"<h2>{escape(opened.query.question)}</h2>",
        f"<p><b>{escape(opened.feed_id)}</b> at {at}: {said}</p>",
        f"<blockquote>{escape(opened.text)}</blockquote>" if opened.text else "",
        '<div class="strip">' if shown.pictures else '<p class="note">Memory holds no picture of it.</p>',
        *[_figure(opened.feed_id, picture) for picture in shown.pictures],
        "</div>" if shown.pictures else "",
        "</article>",
    ]
    return "\n".join(line for line in lines if line)


def _state(last: Alert) -> str:
    if last.transition is Transition.OPENED:
        return "open"
    heard = f"{last.probability:.2f} at {time_of_day(last.observed_ms)}"
    if last.transition is Transition.UPDATED:
        return f"open, {heard}"
    return f"closed, {heard}" + (f" ({escape(last.reason)})" if last.reason else "")


def _figure(feed_id: str, picture: Picture) -> str:
    at = rfc3339(picture.frame_ms)[11:21]  # to a tenth: there is more than one picture a second
    image = f'<img src="{escape(picture.name)}" alt="{escape(feed_id)} at {at}">'
    return f"<figure>{image}<figcaption>{at}</figcaption></figure>"


def _day(at_ms: int) -> str:
    return f"{rfc3339(at_ms)[:10]} {time_of_day(at_ms)}"
