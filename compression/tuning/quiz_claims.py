"""The records of a quiz: what can be asked of a window, before it is put into words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from standwatch.compression.tuning.quiz_words import Noun
from standwatch.compression.tuning.shown import Shown


class Topic(str, Enum):
    """What a question is about."""

    PRESENCE = "presence"
    NEAR_MISS = "near miss"  # a colour with a kind, where the one or the other is there
    COLOUR = "colour"
    SIDE = "side"
    ZONE = "zone"
    COUNT = "count"
    LIST = "list"
    DOING = "doing"
    HEADING = "heading"
    EVENT = "event"
    ORDER = "order"
    TIMES = "times"  # how often
    SINCE = "since"  # since when, how long ago
    HAPPENED = "happened"  # in words


class Phrasing(str, Enum):
    """Which templates: those of training, or those that no training ever uses."""

    TRAINING = "training"
    HELD_OUT = "held out"


@dataclass(frozen=True, slots=True)
class Verb:
    """'Did it `base`?', 'It `past`.', 'Has it `done`?', 'before `going`'."""

    base: str
    past: str
    done: str
    going: str


Field = Noun | Verb | str
Clauses = tuple[tuple[str, tuple[int, ...]], ...]
VERDICTS = {True: "Yes.", False: "No.", None: "Unclear."}


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing to ask. `fields` fill the template; where several words fit, any of them is taken.

    `answer` is empty for a yes/no question: it follows from the verdict. `weight` is how gladly it is asked. `evidence`
    are the window's frames that show what is asked for, counted from 0, where it is about all of them; where it is
    about two things, `clauses` are the fields' words for each with its part of these frames.
    """

    fields: Mapping[str, tuple[Field, ...]]
    verdict: bool | None = None
    answer: str = ""
    weight: float = 1.0
    templates: str = ""  # where not the form's
    described: str = ""  # what to add to a yes where a description is asked for
    evidence: tuple[int, ...] = ()
    clauses: Clauses = ()


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask about a topic: which templates, and what can be asked of a window."""

    topic: Topic
    templates: str
    claims: Callable[[Shown], Sequence[Claim]]
    frames: int = 1  # that it needs
    share: float = 1.0  # within its topic
    yes_no: bool = True
    drilled: Callable[[Shown], Sequence[Claim]] | None = None  # what lessons ask instead; exams keep to the `claims`
