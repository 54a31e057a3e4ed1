"""Ray shell that carries one shard's video from its topic through the GpuWorker into the MemoryKeeper."""

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from standwatch.actors.peers import LOST, first_line
from standwatch.actors.topics import open_sink, open_source
from standwatch.configs.schema import BrokerConfig, DecodeConfig, FlowConfig, TopicsConfig
from standwatch.pipeline.backoff import Backoff
from standwatch.pipeline.batching import Batch, ClipBatcher
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.deadletters import bury
from standwatch.pipeline.decode import ChunkDecoder
from standwatch.pipeline.flow import InFlight, IngestFlow, Intake
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Progress

_IDLE_S = 1.0
_MAINTAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class IngestorSettings:
    """The sections of the configuration that an Ingestor works by."""

    broker: BrokerConfig
    topics: TopicsConfig
    decode: DecodeConfig
    flow: FlowConfig
    frames_per_clip: int
    replay: SegmentGrid | None  # where the compressor's open segments lie; None when its tokens need no state
    commit_ms: int
    timeout_s: float  # for one call of a peer


@dataclass(slots=True)
class IngestStatus:
    """What an Ingestor has done since it started, and what it is doing."""

    shard: int
    state: str = "starting"
    records: int = 0
    clips: int = 0
    frames: int = 0
    dead_letters: int = 0
    in_flight_clips: int = 0
    lag_records: int = 0
    rewinds: int = 0
    frames_dropped: dict[str, int] = field(default_factory=dict)


class Ingestor:
    """Holds no position of its own: every session starts from the keeper's `rewind()`.

    `status` and `stop` run on threads beside `run` (Ray gives the actor three) and only read counters or set a flag.
    """

    def __init__(self, settings: IngestorSettings, shard: int, partitions: Sequence[int]) -> None:
        self._settings = settings
        self._partitions = list(partitions)
        self._status = IngestStatus(shard)
        self._stopping = threading.Event()
        self._alone = threading.Lock()

    def pid(self) -> int:
        return os.getpid()

    def stop(self) -> None:
        """Ask `run` to finish what is in flight and return."""
        self._stopping.set()

    def status(self) -> IngestStatus:
        return self._status

    def run(self, gpu: Any, memory: Any, until_idle: bool) -> None:
        """Carry video to a GpuWorker and a MemoryKeeper until `stop`, or until everything published is in memory.

        A lost peer (worker, keeper, broker) ends the session, and the next one starts after a growing pause;
        any other error ends the call. A call beside one that still runs waits for it.
        """
        backoff = Backoff(first_s=0.2, cap_s=5.0)
        with self._alone:
            while not self._stopping.is_set():
                session = _Session(self._settings, self._partitions, gpu, memory, self._status)
                try:
                    session.open()
                    self._status.state = "running"
                    session.carry(until_idle, self._stopping)
                    self._status.state = "idle" if until_idle else "stopped"
                    return
                except LOST as error:
                    if session.brought_in:
                        backoff.reset()
                    self._status.state = f"recovering: {first_line(error)}"
                    self._stopping.wait(backoff.next_s())
                finally:
                    session.close()


class _Session:
    """Everything that is forgotten together when a peer is lost: connections, pending work, partial clips."""

    def __init__(
        self, settings: IngestorSettings, partitions: Sequence[int], gpu: Any, memory: Any, status: IngestStatus
    ) -> None:
        self._settings, self._partitions = settings, partitions
        self._gpu, self._memory, self._status = gpu, memory, status
        self._flow = IngestFlow(
            settings.topics.chunks,
            settings.decode,
            settings.flow,
            settings.frames_per_clip,
            ChunkDecoder(settings.decode),
        )
        self._in_flight = InFlight(settings.flow.max_in_flight_clips)
        self._pending: deque[tuple[Any, int]] = deque()  # (keeper's reference, clips), in order of submission
        self._session = self._seq = 0
        self._life = ""  # of the worker: one that was started anew takes no more of this session's clips
        self._closing: list[Any] = []
        self.brought_in = 0  # clips that the keeper has taken

    def open(self) -> None:
        """Connect, and go on from what the memory holds: starting and recovering alike."""
        settings = self._settings
        self._source = open_source(settings.broker, settings.topics, settings.topics.chunks)
        self._closing.append(self._source)
        self._sink = open_sink(settings.broker, settings.topics)
        self._closing.append(self._sink)
        # Both peers, before anything is read: a worker that still loads must not cost decoding and dead letters.
        self._life = self._wait(self._gpu.forget.remote())
        state = self._wait(self._memory.rewind.remote(settings.replay))
        self._session = state.session
        self._batcher = ClipBatcher(settings.flow.batch_clips, settings.flow.batch_wait_ms, state.positions)
        self._flow.rewind(state)
        self._source.assign({p: state.positions.get(p) for p in self._partitions})
        self._status.rewinds += 1
        self._status.in_flight_clips = 0

    def close(self) -> None:
        for connection in self._closing:
            connection.close()

    def carry(self, until_idle: bool, stopping: threading.Event) -> None:
        """Poll, decode, submit and commit, until asked to stop or until the topic's end is reached."""
        flow = self._settings.flow
        last_record = last_commit = last_maintain = time.monotonic()
        while not stopping.is_set():
            self._reap()
            left_ms = self._batcher.left_ms(_steady_ms())
            patience_ms = flow.poll_timeout_ms if left_ms is None else min(flow.poll_timeout_ms, left_ms)
            records = self._source.poll(flow.poll_records, patience_ms)
            now = time.monotonic()
            if records:
                last_record = now
                self._status.records += len(records)
                self._take_in(self._flow.take(records, now_ms()))
            elif until_idle and now - last_record > _IDLE_S and not self._look_at_lag():
                self._take_in(self._flow.flush(now_ms(), everything=True))
                break
            else:
                self._take_in(self._flow.flush(now_ms()))
            if now - last_commit > self._settings.commit_ms / 1000:
                last_commit = now
                self._look_at_lag()
                self._pending.append((self._memory.commit.remote(), 0))
            if now - last_maintain > _MAINTAIN_S:
                last_maintain = now
                self._pending.append((self._memory.maintain.remote(), 0))
        self._release(everything=True)
        while self._pending:
            self._reap_oldest()
        self._note(self._wait(self._memory.commit.remote()))
        self._look_at_lag()

    def _take_in(self, intake: Intake) -> None:
        """Send dead letters first: the positions that cover them go out with the clips or after."""
        bury(intake.dead, self._settings.topics.dead_letters, self._sink)
        if intake.dead:
            self._status.dead_letters += len(intake.dead)
        for reason, frames in intake.frames_dropped.items():
            self._status.frames_dropped[reason] = self._status.frames_dropped.get(reason, 0) + frames
        self._batcher.add(intake, _steady_ms())
        self._release()

    def _release(self, everything: bool = False) -> None:
        for batch in self._batcher.release(_steady_ms(), everything):
            self._submit(batch)

    def _submit(self, batch: Batch) -> None:
        clips = len(batch.clips)
        while not self._in_flight.has_room(clips):
            self._reap_oldest()
        self._in_flight.admit(clips)
        # Tokens go from worker to keeper by reference: their bytes never pass through this process.
        tokens = self._gpu.compress.remote(batch.clips, self._life) if clips else []
        reference = self._memory.append.remote(self._session, self._seq, tokens, batch.positions)
        self._seq += 1
        self._pending.append((reference, clips))
        self._status.clips += clips
        self._status.frames += sum(len(clip.frame_ms) for clip in batch.clips)
        self._status.in_flight_clips = self._in_flight.count

    def _reap(self) -> None:
        """Take what has finished. The keeper works in order, so only the oldest needs a look."""
        while self._pending and ray.wait([self._pending[0][0]], timeout=0)[0]:
            self._reap_oldest()

    def _reap_oldest(self) -> None:
        reference, clips = self._pending[0]
        done = self._wait(reference)
        self._pending.popleft()
        self.brought_in += clips
        self._in_flight.finish(clips)
        self._status.in_flight_clips = self._in_flight.count
        self._note(done or ())

    def _wait(self, reference: Any) -> Any:
        return ray.get(reference, timeout=self._settings.timeout_s)

    def _note(self, progress: Sequence[Progress]) -> None:
        if progress:
            self._source.note_progress({p.at.partition: p.durable_offset for p in progress})

    def _look_at_lag(self) -> int:
        """Records published but not yet taken."""
        self._status.lag_records = sum(self._source.lag().values())
        return self._status.lag_records


def _steady_ms() -> int:
    """A clock that never goes back."""
    return time.monotonic_ns() // 1_000_000
