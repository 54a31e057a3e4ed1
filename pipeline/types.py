"""The records of Standwatch: what one part hands to another.

SourceOffset, Record, Outgoing     a place in a topic; what was read from one; what is to be written to one
Chunk, Clip, TokenBatch            video undecoded; decoded and sampled; compressed
Rewind, FeedMark, Progress         where to go on reading; how far a feed is; what is safe
StandingQuery, Window, Due         asked once; a span of time; a query whose window is complete
WindowTokens, ReadRequest          memory of a span; questions to read against a window of it
Reading, Evidence                  one pass of a question over a window; what was selected
Alert, Answer, Evaluation          what comes out; and the log of why

Letters in shapes: T frames of a clip, N frames of a window, K selected frames, n tokens per frame, D width.
`*_ms` is milliseconds since the epoch, UTC, unless the name says it is a length of time
(`duration_ms`, `every_ms`, `window_ms`, `cooldown_ms`). All records can be pickled.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Float16Array = npt.NDArray[np.float16]
Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]
Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, order=True)
class SourceOffset:
    """Where a thing came from; its identity when it is replayed."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read from a topic."""

    at: SourceOffset
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to be written. Records of one key keep their order."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One record of video, undecoded, that starts at a key frame. `start_ms` is the time of its first frame."""

    feed_id: str
    at: SourceOffset
    start_ms: int
    duration_ms: int
    content_type: str
    payload: bytes
    seq: int
    fps: float | None = None  # only raw H.264/H.265 needs it: such a stream carries no times of its own


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that cannot be used, and why."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Consecutive sampled frames of one feed, in the order of time; T is at most the model's frames per clip."""

    feed_id: str
    at: SourceOffset  # the chunk that its last frame came from
    frame_ms: Int64Array  # [T], strictly increasing
    frame_offset: Int64Array  # [T], offset of the chunk of each frame
    frames: UInt8Array  # [T, H, W, 3] RGB
    thumbnails: tuple[bytes, ...]  # T JPEGs, or empty


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """A clip after compression, whole unless its first frames were left out as replays."""

    feed_id: str
    at: SourceOffset
    frame_ms: Int64Array  # [T], strictly increasing
    frame_offset: Int64Array  # [T]
    tokens: Float16Array  # [T, n, D]
    thumbnails: tuple[bytes, ...]  # T JPEGs, or empty
    token_space: str  # fingerprint of everything that gives the tokens their meaning
    clip_frame: int = 0  # place of the first frame in its clip


@dataclass(frozen=True, slots=True)
class FeedMark:
    """A time of a feed, later frames than which are to come; and the chunk in which it lies."""

    frame_ms: int
    at: SourceOffset


@dataclass(frozen=True, slots=True)
class Rewind:
    """Where a shard goes on from. Appends of another session are refused.

    A feed's mark is its last frame in memory. Where a compressor's state is to be rebuilt, it is a time before that,
    the positions lie further back, and frames come again that memory has.
    """

    session: int
    positions: Mapping[int, int]  # partition -> next offset to read; absent: from the topic's beginning
    feeds: Mapping[str, FeedMark]
    settled: Mapping[int, int] = field(default_factory=dict)  # partition -> offset; records before it had their effect
    clip_ends: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # last frame of each clip to come again


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a feed's memory is and what of it is safe on disk."""

    feed_id: str
    watermark_ms: int  # time of the last durable frame
    at: SourceOffset  # chunk of that frame
    durable_offset: int  # next offset of the partition: everything before it is safe
    frames: int  # durable frames held for the feed


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The span of time [from_ms, to_ms)."""

    from_ms: int
    to_ms: int


class QueryKind(str, Enum):
    """What a standing query asks for."""

    YES_NO = "yes_no"  # a verdict from probabilities, and an alert when it holds
    TEXT = "text"  # words about the window, every time


class Verdict(str, Enum):
    """A typed verdict; `UNKNOWN` is one."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class StandingQuery:
    """A question asked once and answered again and again."""

    query_id: str
    question: str
    version: int = 1
    feeds: tuple[str, ...] = ("*",)  # feed names or shell patterns
    kind: QueryKind = QueryKind.YES_NO
    every_ms: int = 10_000
    window_ms: int = 30_000
    open_at: float = 0.7  # probability of yes at which an alert opens
    close_at: float = 0.5  # below it the alert closes
    debounce_k: int = 1  # opens when k of the last n readings are at or above open_at
    debounce_n: int = 1
    cooldown_ms: int = 0  # no new alert within it after one that was sent
    severity: str = "warning"
    evidence_frames: int = 0  # 0: the configuration's


@dataclass(frozen=True, slots=True)
class Due:
    """A standing query whose window on a feed is complete."""

    query: StandingQuery
    feed_id: str
    window: Window


@dataclass(frozen=True, slots=True, eq=False)
class WindowTokens:
    """What memory holds of a feed within a window."""

    feed_id: str
    window: Window
    topic: str
    partition: int
    frame_ms: Int64Array  # [N], strictly increasing
    frame_offset: Int64Array  # [N]
    tokens: Float16Array  # [N, n, D]
    token_space: str  # empty when N is 0


@dataclass(frozen=True, slots=True, eq=False)
class ReadRequest:
    """Questions to read together against one window of a feed.

    `memory` holds the window's frames, and may begin before it: those frames are context, they are not read.
    """

    memory: WindowTokens
    window: Window
    queries: tuple[StandingQuery, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One question read against one window."""

    query_id: str
    feed_id: str
    window: Window
    frame_ms: Int64Array  # [N], all within the window
    relevance: Float32Array  # [N]
    verdict: Verdict
    probability: float  # of yes against no, 0..1
    duration_ms: float  # compute time spent on the pass


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The frames an answer rests on, in the order of time."""

    feed_id: str
    window: Window
    topic: str
    partition: int
    frame_ms: Int64Array  # [K]
    frame_offset: Int64Array  # [K]
    tokens: Float16Array  # [K, n, D]
    scores: Float32Array  # [K]
    thumbnails: tuple[bytes, ...]  # K JPEGs; empty ones where none was stored
    token_space: str


@dataclass(frozen=True, slots=True)
class EvidenceFrame:
    """A reference to one evidence frame, as it goes out with alerts and answers."""

    frame_ms: int
    score: float
    at: SourceOffset
    thumbnail_sha256: str  # of the JPEG in memory; empty when none is stored


class Transition(str, Enum):
    """What happened to an alert."""

    OPENED = "opened"
    UPDATED = "updated"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Alert:
    """One transition of one alert. `alert_id` is the same for all transitions of one event."""

    alert_id: str
    transition: Transition
    revision: int  # 0 for opened, then counting up
    query: StandingQuery
    feed_id: str
    started_ms: int
    observed_ms: int
    ended_ms: int | None
    verdict: Verdict
    probability: float
    evidence: tuple[EvidenceFrame, ...]
    reason: str = ""  # why it closed, e.g. 'query person was removed'
    text: str = ""  # words about the evidence, written when it opens


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. `answer_id` is a hash of query, feed and window, so consumers can deduplicate."""

    answer_id: str
    query_id: str
    query_version: int
    question: str
    feed_id: str
    window: Window
    verdict: Verdict
    probability: float
    text: str  # empty for a yes/no reading that needed no words
    evidence: tuple[EvidenceFrame, ...]
    model: str
    weights: str  # 'untrained' while weights are drawn from a seed
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One line of the log that says why an alert did or did not fire."""

    query_id: str
    query_version: int
    feed_id: str
    window: Window
    frames: int
    verdict: Verdict
    probability: float
    outcome: str  # e.g. 'opened', 'still open', 'below open_at 0.70', 'debounce 1 of 2', 'cool-down until ...'
    skipped_windows: int  # windows passed over because the reader was late
