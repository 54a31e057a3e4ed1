"""Decides which standing query is due for which window, once each, latest first when late."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from standwatch.pipeline.fields import Fields
from standwatch.pipeline.snapshots import JsonRecord
from standwatch.pipeline.types import Due, Progress, StandingQuery, Window

Pair = tuple[str, int, str]  # query_id, version, feed_id


def pair_of(query: StandingQuery, feed_id: str) -> Pair:
    return query.query_id, query.version, feed_id


def matches(query: StandingQuery, feed_id: str) -> bool:
    """Whether a query is about a feed; its feeds are names or shell patterns, and case counts."""
    return any(fnmatchcase(feed_id, pattern) for pattern in query.feeds)


@dataclass(slots=True)
class _Course:
    """How far one query is on one feed."""

    frontier_ms: int  # every window that ends up to here is settled, was skipped, or is in `open_ms`
    open_ms: dict[int, int] = field(default_factory=dict)  # end of an unsettled window -> windows skipped before it
    handed: set[int] = field(default_factory=set)  # those of `open_ms` that someone is working on; not saved


class QueryBook:
    """Knows the standing queries and, for every query and feed, which windows are answered.

    A window of a query is [end - window_ms, end) with `end` a multiple of every_ms since the epoch, so windows do not
    depend on when anything was started. It is complete when the feed's durable watermark has reached `end`. A query
    meets a feed at the latest complete window; everything after is due, once. At most `max_due_windows` of a query
    and feed are unsettled at a time; when more have piled up, the latest are due, latest first, and the others are
    passed over and counted.
    """

    def __init__(self, max_due_windows: int) -> None:
        self._most = max_due_windows
        self._queries: dict[str, StandingQuery] = {}
        self._courses: dict[Pair, _Course] = {}

    @property
    def pairs(self) -> frozenset[Pair]:
        """Which queries have met which feeds."""
        return frozenset(self._courses)

    def set_queries(self, queries: Iterable[StandingQuery]) -> None:
        """Replace the set. What is known about other queries, and other versions of these, is forgotten."""
        self._queries = {query.query_id: query for query in queries}
        self._courses = {pair: course for pair, course in self._courses.items() if self._current(pair)}

    def knows(self, query: StandingQuery) -> bool:
        """Whether this version of the query is in the set now; it may have gone while its window was being read."""
        return self._queries.get(query.query_id) == query

    def due(self, progress: Sequence[Progress]) -> list[Due]:
        """What is due now and not handed out yet: latest end first, the queries of a feed and window side by side.

        Calling again gives only what has become due since, until windows are settled or given back.
        """
        found = []
        for at in progress:
            for query in self._queries.values():
                if matches(query, at.feed_id):
                    for end_ms in self._take(query, at):
                        found.append(Due(query, at.feed_id, Window(end_ms - query.window_ms, end_ms)))
        return sorted(found, key=lambda d: (-d.window.to_ms, d.feed_id, d.window.from_ms, d.query.query_id))

    def skipped(self, due: Due) -> int:
        """How many windows right before this one were passed over because the reader was late."""
        course = self._courses.get(pair_of(due.query, due.feed_id))
        return 0 if course is None else course.open_ms.get(due.window.to_ms, 0)

    def settle(self, due: Due) -> None:
        """This window is done for good. Twice, or for a query that has gone since, is fine."""
        course = self._courses.get(pair_of(due.query, due.feed_id))
        if course is not None:
            course.open_ms.pop(due.window.to_ms, None)
            course.handed.discard(due.window.to_ms)

    def give_back(self, dues: Iterable[Due]) -> None:
        """These windows could not be answered now; `due` hands them out again."""
        for due in dues:
            course = self._courses.get(pair_of(due.query, due.feed_id))
            if course is not None:
                course.handed.discard(due.window.to_ms)

    def give_all_back(self) -> None:
        """As `give_back`, for everything that is handed out."""
        for course in self._courses.values():
            course.handed.clear()

    def save(self) -> JsonRecord:
        """All that `restore` needs, as plain JSON values."""
        courses = [
            {
                "query_id": query_id,
                "version": version,
                "feed_id": feed_id,
                "frontier_ms": course.frontier_ms,
                "open": [{"end_ms": end, "skipped": skipped} for end, skipped in sorted(course.open_ms.items())],
            }
            for (query_id, version, feed_id), course in sorted(self._courses.items())
        ]
        return {"courses": courses}

    def restore(self, saved: Fields) -> None:
        """Go on from what `save` gave: settled windows stay settled, unsettled ones are due again.

        `set_queries` afterwards drops what is not asked any more. Raises `BadInput`.
        """
        courses = {}
        for entry in saved.sections("courses"):
            version = entry.integer("version", 1, 2**53)
            course = _Course(entry.integer("frontier_ms", -(2**63), 2**63))
            for window in entry.sections("open"):
                course.open_ms[window.integer("end_ms", -(2**63), 2**63)] = window.integer("skipped", 0, 2**63)
            courses[entry.text("query_id"), version, entry.text("feed_id")] = course
        self._courses = courses

    def _current(self, pair: Pair) -> bool:
        query = self._queries.get(pair[0])
        return query is not None and query.version == pair[1] and matches(query, pair[2])

    def _take(self, query: StandingQuery, at: Progress) -> list[int]:
        """Hand out ends of windows of one query and feed."""
        every_ms = query.every_ms
        latest_ms = at.watermark_ms // every_ms * every_ms
        course = self._courses.get(pair_of(query, at.feed_id))
        if course is None:
            course = self._courses[pair_of(query, at.feed_id)] = _Course(frontier_ms=latest_ms - every_ms)
        room = self._most - len(course.open_ms)
        pending = (latest_ms - course.frontier_ms) // every_ms
        if room > 0 and pending > 0:
            taken = min(room, pending)
            oldest_ms = latest_ms - (taken - 1) * every_ms
            course.open_ms.update((end, 0) for end in range(oldest_ms, latest_ms + 1, every_ms))
            course.open_ms[oldest_ms] = pending - taken
            course.frontier_ms = latest_ms
        new = sorted(course.open_ms.keys() - course.handed, reverse=True)
        course.handed.update(new)
        return new
