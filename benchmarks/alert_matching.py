"""Decides which alerts are right and which events were found, from spans of time alone.

Of each query and feed there are the alerts, each a span from opening to closing, and the truth: spans in which the
answer is yes, and spans in which it cannot be told. All else is no.

An alert is right if it opens within a span of yes, or nearer to it than a tolerance; each span makes one alert right.
One that opens again in the same span is false, unless it cannot be told there just then. One that opens where it cannot
be told, or that near to it, counts for nothing; any other is false. An alert that is still open when the tolerance and
one period have passed since the last span, of yes or of what cannot be told, is one more false alert: otherwise whoever
says yes forever would be right forever. A question about the past is true for its window longer, so spans reach that
much further.

A span of yes that lasts for a period at least is to be found; a shorter one can fall between two readings and counts
for nothing but the alert it makes right. It is found if an alert is open at any time within it or the tolerance after.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from standwatch.pipeline.types import Alert, Transition, Window


@dataclass(frozen=True, slots=True)
class Truth:
    """Spans in which the answer is yes, and in which it cannot be told; in order, none touching another of its sort."""

    yes: tuple[Window, ...]
    unclear: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """How long it is between two readings, how far off an alert may be, and how far back the question looks."""

    period_ms: int
    tolerance_ms: int
    past_ms: int  # 0 for a question about the last frame


@dataclass(frozen=True, slots=True)
class Tally:
    """How many alerts were right and false, how many events were found and missed."""

    right: int = 0
    false: int = 0
    found: int = 0
    missed: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.right + other.right, self.false + other.false, self.found + other.found, self.missed + other.missed
        )


def truth_of(answers: Sequence[bool | None], step_ms: int) -> Truth:
    """The spans of answers that are `step_ms` apart, the first at 0; each holds until the next."""
    yes: list[Window] = []
    unclear: list[Window] = []
    end = 0
    for said, group in groupby(answers):
        start, end = end, end + sum(1 for _ in group)
        if said is not False:
            (yes if said else unclear).append(Window(start * step_ms, end * step_ms))
    return Truth(tuple(yes), tuple(unclear))


def open_spans(said: Iterable[Alert], start_ms: int, until_ms: int) -> list[Window]:
    """When the alerts of one query and feed were open, in milliseconds from `start_ms` on; at most to `until_ms`.

    `said` are their transitions in order. An alert opens and closes at the ends of the windows that made it.
    """
    opened: dict[str, int] = {}
    found = []
    for alert in said:
        at_ms = alert.observed_ms - start_ms
        if alert.transition is Transition.OPENED:
            opened[alert.alert_id] = at_ms
        elif alert.transition is Transition.CLOSED:
            found.append(Window(opened.pop(alert.alert_id), at_ms))
    return [*found, *(Window(at_ms, until_ms) for at_ms in opened.values())]


def tally(alerts: Iterable[Window], truth: Truth, rules: Rules) -> Tally:
    """Count one query on one feed, whose alerts and truth are on one clock."""
    near, perhaps = _near(truth.yes, rules), _near(truth.unclear, rules)
    untold = [Window(one.from_ms, one.to_ms + rules.past_ms) for one in truth.unclear]
    ends = [one.to_ms for one in _merged([*near, *perhaps], rules.period_ms)]
    alerts = sorted(alerts)
    free = list(near)
    right = false = 0
    for alert in alerts:
        at_ms = alert.from_ms
        # Spans are in the order of their ends: the first that is free is of least use to later alerts.
        claimed = next((one for one in free if _holds(one, at_ms)), None)
        if claimed is not None:
            free.remove(claimed)
            right += 1
        elif any(_holds(one, at_ms) for one in near):
            false += not any(_holds(one, at_ms) for one in untold)
        else:
            false += not any(_holds(one, at_ms) for one in perhaps)
        false += sum(alert.from_ms <= end and end + rules.period_ms < alert.to_ms for end in ends)
    late_ms = rules.tolerance_ms + rules.past_ms
    lasting = [one for one in truth.yes if one.to_ms - one.from_ms >= rules.period_ms]
    found = sum(
        any(alert.from_ms <= one.to_ms + late_ms and alert.to_ms > one.from_ms for alert in alerts) for one in lasting
    )
    return Tally(right, false, found, len(lasting) - found)


def _near(spans: Iterable[Window], rules: Rules) -> list[Window]:
    """The spans with the tolerance before them and, after them, the question's past and the tolerance."""
    late_ms = rules.past_ms + rules.tolerance_ms
    return [Window(one.from_ms - rules.tolerance_ms, one.to_ms + late_ms) for one in spans]


def _holds(span: Window, at_ms: int) -> bool:
    """Whether what is read at this time, which is about the frames before it, is about the span."""
    return span.from_ms < at_ms <= span.to_ms


def _merged(spans: Iterable[Window], apart_ms: int) -> list[Window]:
    """The spans in order, those at most so far apart as one."""
    found: list[Window] = []
    for span in sorted(spans):
        if found and span.from_ms <= found[-1].to_ms + apart_ms:
            span = Window(found[-1].from_ms, max(found.pop().to_ms, span.to_ms))
        found.append(span)
    return found
