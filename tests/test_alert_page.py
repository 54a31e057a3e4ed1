"""The page of alerts, read as a browser would: what it says, which files it shows, and what it must never do."""

import threading
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from standwatch.actors.alert_page import MOST_ALERTS, MOST_PICTURES, AlertPage
from standwatch.configs.load import load_config
from standwatch.pipeline.alerts import AlertBook
from standwatch.pipeline.answers import evidence_frames
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.thumbnails import thumbnail
from standwatch.pipeline.types import Alert, Reading, StandingQuery, Transition, Verdict, Window
from tests.memory_rows import Keeper, batch
from tests.system import BOTTLES, publish, spool_place

STEP_MS = 500
WINDOW_MS = 8_000
HOUR = 3_600_000
QUERY = StandingQuery("person", "Is a person in view?", window_ms=WINDOW_MS)


@dataclass
class Article:
    """One alert as the page shows it."""

    state: str
    question: str = ""
    said: str = ""
    pictures: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Reads the page; only the tags that it is made of are expected."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.articles: list[Article] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.refresh = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.attributes |= set(given)
        if tag == "article":
            self.articles.append(Article(given["class"]))
        if tag == "img":
            self.articles[-1].pictures.append(given["src"])
        if given.get("http-equiv") == "refresh":
            self.refresh = given["content"]
        if tag not in ("img", "meta"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "article" not in self._open:
            return
        article = self.articles[-1]
        if self._open[-1] == "h2":
            article.question += data
        elif self._open[-1] == "figcaption":
            article.captions.append(data)
        else:
            article.said += data


class World:
    """A memory with real JPEGs, the rules over it and the page about them. Frame i of a feed is at i * STEP_MS."""

    def __init__(self, root: Path, frames: int = 64, thumbnails: bool = True) -> None:
        self.keeper = Keeper(root / "memory", retention_hours=1)
        self.jpegs = [thumbnail(np.full((90, 160, 3), 3 * i % 256, np.uint8), 160, 70) for i in range(frames)]
        rows = batch("yard", range(0, frames * STEP_MS, STEP_MS))
        self.keeper.commit(replace(rows, thumbnails=tuple(self.jpegs) if thumbnails else ()), p0=1)
        self.book = AlertBook()
        self.folder = root / "alerts"
        self.page = AlertPage(self.folder, str(root / "memory"))

    def alerts(self, end_ms: int, probability: float, query: StandingQuery = QUERY) -> list[Alert]:
        """What the rule makes of the window that ends here; its later frames are the more relevant ones."""
        window = Window(end_ms - WINDOW_MS, end_ms)
        times = np.arange(window.from_ms, end_ms, STEP_MS, dtype=np.int64)
        relevance = np.linspace(0, 1, len(times), dtype=np.float32)
        verdict = Verdict.YES if probability >= 0.5 else Verdict.NO
        reading = Reading(query.query_id, "yard", window, times, relevance, verdict, probability, 1.0)
        held = MemoryReader(str(self.keeper.root)).evidence("yard", window, times, relevance)
        alerts, _ = self.book.fold(query, reading, evidence_frames(held))
        return alerts

    def tell(self, end_ms: int, probability: float, query: StandingQuery = QUERY) -> None:
        for alert in self.alerts(end_ms, probability, query):
            self.page.add(alert)

    def seen(self) -> Page:
        return Page(self.page.path)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"alerts.html"}


def test_an_alert_that_opens_is_shown_with_the_stored_pictures_of_its_best_frames(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.seen().articles == []
    world.tell(WINDOW_MS, 0.83)
    (article,) = world.seen().articles
    assert article.question == "Is a person in view?"
    assert "yard at 1970-01-01 00:00:08 UTC: yes, probability 0.83; open" in article.said
    assert article.state == "open"
    best = range(16 - MOST_PICTURES, 16)
    assert [(world.folder / name).read_bytes() for name in article.pictures] == [world.jpegs[i] for i in best]
    assert article.captions == ["00:00:05.0", "00:00:05.5", "00:00:06.0", "00:00:06.5", "00:00:07.0", "00:00:07.5"]
    assert world.files() == set(article.pictures)


def test_what_becomes_of_an_alert_is_told_in_its_place(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tell(WINDOW_MS, 0.75)
    (opened,) = world.seen().articles
    world.tell(WINDOW_MS + 5_000, 0.95)
    (updated,) = world.seen().articles
    assert "probability 0.75; open, 0.95 at 00:00:13" in updated.said
    world.tell(WINDOW_MS + 10_000, 0.25)
    (closed,) = world.seen().articles
    assert "probability 0.75; closed, 0.25 at 00:00:18 (below close_at 0.50)" in closed.said
    assert (opened.state, updated.state, closed.state) == ("open", "open", "closed")
    assert opened.pictures == updated.pictures == closed.pictures != []


def test_what_is_told_again_or_was_not_seen_to_open_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    (opened,) = world.alerts(WINDOW_MS, 0.9)
    (closed,) = world.alerts(WINDOW_MS + 5_000, 0.1)
    world.page.add(closed)
    assert world.seen().articles == []
    for alert in (opened, closed, opened):
        world.page.add(alert)
    (article,) = world.seen().articles
    assert article.state == "closed"


def test_the_newest_alert_stands_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    first, last = (replace(QUERY, query_id=name, question=name) for name in ("first", "last"))
    world.tell(WINDOW_MS, 0.9, first)
    world.tell(WINDOW_MS + 5_000, 0.9, last)
    world.tell(WINDOW_MS + 10_000, 0.1, first)
    assert [article.question for article in world.seen().articles] == ["last", "first"]


@pytest.mark.parametrize(
    "text", ["<script>alert('x')</script>", "</h2></article><img src=x onerror=alert(1)>", '"&lt; & &amp;', "a\ud800b"]
)
def test_nothing_that_an_alert_says_becomes_markup(tmp_path: Path, text: str) -> None:
    world = World(tmp_path)
    plain = World(tmp_path / "plain")
    for place, words in ((world, text), (plain, "words")):
        query = replace(QUERY, question=words)
        (opened,) = place.alerts(WINDOW_MS, 0.9, query)
        place.page.add(replace(opened, text=words))
        (closed,) = place.alerts(WINDOW_MS + 5_000, 0.1, query)
        place.page.add(replace(closed, reason=words))
    seen, usual = world.seen(), plain.seen()
    (article,) = seen.articles
    shown = text.replace("\ud800", "\N{REPLACEMENT CHARACTER}")
    assert article.question == shown
    assert article.said.count(shown) == 2
    assert (seen.tags, seen.attributes) == (usual.tags, usual.attributes)
    assert "script" not in usual.tags


def test_an_alert_whose_frames_memory_has_forgotten_is_shown_without_a_picture(tmp_path: Path) -> None:
    world = World(tmp_path)
    (alert,) = world.alerts(WINDOW_MS, 0.9)
    world.keeper.clock_ms += 100 * HOUR
    world.keeper.commit(batch("gate", [99 * HOUR], 1), p0=2)
    assert world.keeper.maintain() == 1
    assert world.keeper.times("yard") == []
    world.page.add(alert)
    (article,) = world.seen().articles
    assert "yard at" in article.said and "no picture" in article.said
    assert article.pictures == [] and world.files() == set()


def test_pictures_stay_when_memory_forgets_their_frames(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.tell(WINDOW_MS, 0.9)
    world.keeper.clock_ms += 100 * HOUR
    world.keeper.commit(batch("gate", [99 * HOUR], 1), p0=2)
    world.keeper.maintain()
    world.page.end()
    (article,) = world.seen().articles
    assert len(article.pictures) == MOST_PICTURES and world.files() == set(article.pictures)


def test_an_alert_of_frames_stored_without_thumbnails_is_shown_without_a_picture(tmp_path: Path) -> None:
    world = World(tmp_path, thumbnails=False)
    world.tell(WINDOW_MS, 0.9)
    (article,) = world.seen().articles
    assert article.pictures == [] and "no picture" in article.said


def test_a_picture_that_is_not_the_one_the_alert_names_is_not_shown(tmp_path: Path) -> None:
    world = World(tmp_path)
    (alert,) = world.alerts(WINDOW_MS, 0.9)
    *others, last = alert.evidence
    world.page.add(replace(alert, evidence=(*others, replace(last, thumbnail_sha256="0" * 64))))
    (article,) = world.seen().articles
    assert [(world.folder / name).read_bytes() for name in article.pictures] == world.jpegs[10:15]


def test_an_alert_of_a_feed_that_memory_does_not_know_names_no_file(tmp_path: Path) -> None:
    world = World(tmp_path)
    (alert,) = world.alerts(WINDOW_MS, 0.9)
    world.page.add(replace(alert, feed_id="../../yard"))
    (article,) = world.seen().articles
    assert article.pictures == [] and world.files() == set()


def test_the_page_keeps_the_newest_alerts_and_only_their_pictures(tmp_path: Path) -> None:
    world = World(tmp_path)
    (first,) = world.alerts(WINDOW_MS, 0.9)
    (later,) = world.alerts(2 * WINDOW_MS, 0.9, replace(QUERY, query_id="later"))
    world.page.add(first)
    overlapping = world.files()
    for i in range(MOST_ALERTS):
        assert overlapping <= world.files()
        world.page.add(replace(later, alert_id=f"later-{i}"))
    seen = world.seen()
    assert len(seen.articles) == MOST_ALERTS
    assert {name for article in seen.articles for name in article.pictures} == world.files()
    assert not overlapping & world.files()


def test_a_picture_that_another_alert_shows_too_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    (alert,) = world.alerts(WINDOW_MS, 0.9)
    for i in range(MOST_ALERTS + 1):
        world.page.add(replace(alert, alert_id=f"same-{i}", observed_ms=alert.observed_ms + i))
    assert len(world.seen().articles) == MOST_ALERTS
    assert world.files() == set(world.seen().articles[0].pictures) != set()


def test_the_page_loads_itself_again_until_the_run_is_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert int(world.seen().refresh) > 0
    world.tell(WINDOW_MS, 0.9)
    assert int(world.seen().refresh) > 0
    world.page.end()
    assert world.seen().refresh == ""
    assert len(world.seen().articles) == 1


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_alerts_of_a_run_come_to_the_page_with_what_the_camera_saw(tmp_path: Path) -> None:
    from standwatch.actors.watching import watch  # imports Ray

    place = spool_place(tmp_path, "decode.sample_fps=2")
    publish(place, BOTTLES, "belt")
    always = StandingQuery("any", "Is <anything> there?", every_ms=5_000, window_ms=8_000, open_at=0.01, close_at=0.0)
    QueryStore(place.memory / "queries").add(always)
    page = AlertPage(tmp_path / "alerts", str(place.memory))
    heard: list[Alert] = []

    def tell(alert: Alert) -> None:
        heard.append(alert)
        page.add(alert)

    config = load_config("local", None, place.settings)
    summary = watch(config, until_idle=True, for_ms=None, quiet=True, stop=threading.Event(), on_alert=tell)
    page.end()
    assert summary.alerts == len(heard)
    opened = [alert for alert in heard if alert.transition is Transition.OPENED]
    articles = Page(page.path).articles
    assert len(articles) == len(opened) == 1
    assert articles[0].question == "Is <anything> there?"
    shown = [(page.path.parent / name).read_bytes() for name in articles[0].pictures]
    assert len(shown) == MOST_PICTURES
    times = np.array([frame.frame_ms for frame in opened[0].evidence], np.int64)
    window = Window(int(times[0]), int(times[-1]) + 1)
    held = MemoryReader(str(place.memory)).evidence("belt", window, times, np.zeros(len(times), np.float32))
    assert set(shown) <= set(held.thumbnails)
