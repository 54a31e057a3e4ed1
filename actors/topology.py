"""The composition root: the only place that constructs the actors and what they work with."""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayError

from standwatch.actors.answerer import Answerer, AnswererSettings, AnswerStatus
from standwatch.actors.freed_memory import giving_back
from standwatch.actors.gpu_worker import GpuWorker
from standwatch.actors.ingestor import Ingestor, IngestorSettings, IngestStatus
from standwatch.actors.memory_keeper import MemoryKeeper
from standwatch.actors.peers import last_line
from standwatch.actors.runner import Runner
from standwatch.actors.topics import open_source
from standwatch.compression.checkpoint_config import resolved
from standwatch.configs.load import save_resolved, to_yaml
from standwatch.configs.schema import StandwatchConfig
from standwatch.pipeline.clock import now_ms, rfc3339
from standwatch.pipeline.errors import BadInput, GaveUp
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Progress

_LARGE_BLOCK = 128 << 10  # bytes; glibc's own first choice
LARGE_TENSOR = 32 << 20  # the most that glibc takes: a model allocates the same tensors anew for every clip


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """One look at the running system. A part that is restarting is missing from it."""

    ingest: tuple[IngestStatus, ...]
    feeds: tuple[Progress, ...]
    answers: AnswerStatus | None


class Running:
    """The actors of one run. Use as a context manager: leaving it stops them and what was started for them."""

    def __init__(self, config: StandwatchConfig) -> None:
        self._config = config
        self._timeout = config.cluster.call_timeout_s
        partitions = _chunk_partitions(config)
        shards = range(min(config.flow.shards, len(partitions)))
        _start_ray(config)
        gpus = 1 if config.model.device.startswith("cuda") else 0
        # Task events are Ray's record of every call for its dashboard; it grows with each clip.
        options = {"num_cpus": 0, "max_restarts": -1, "enable_task_events": False}
        self._workers = [
            _actor(GpuWorker, LARGE_TENSOR)
            .options(**options, num_gpus=gpus)
            .remote(config.model, config.reading, config.decode.sample_fps)
            for _ in shards
        ]
        owned = [[p for p in partitions if p % len(shards) == shard] for shard in shards]
        self._keepers = [
            _actor(MemoryKeeper).options(**options).remote(config.memory, config.topics.chunks, owned[shard])
            for shard in shards
        ]
        grid = SegmentGrid(config.decode.sample_fps, config.model.segment_frames)
        settings = IngestorSettings(
            config.broker,
            config.topics,
            config.decode,
            config.flow,
            config.model.vision.frames_per_clip,
            grid if config.model.frame_tokens == 1 else None,
            config.memory.commit_ms,
            self._timeout,
        )
        self._ingestors = [
            _actor(Ingestor).options(**options, max_concurrency=3).remote(settings, shard, owned[shard])
            for shard in shards
        ]
        asking = AnswererSettings(
            config.broker,
            config.topics,
            config.reading,
            config.memory.path,
            grid,
            self._timeout,
        )
        self._answerer = _actor(Answerer).options(**options, max_concurrency=3).remote(asking)
        self._ready()

    def __enter__(self) -> "Running":  # noqa: PYI034 (Self needs Python 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, until_idle: bool, tick: Callable[[SystemStatus], bool], every_s: float = 0.5) -> None:
        """Run until `tick`, called about every `every_s`, returns False; or until all is ingested and answered."""
        ingest = [
            Runner(f"Ingestor {shard}", actor, self._workers[shard], self._keepers[shard])
            for shard, actor in enumerate(self._ingestors)
        ]
        answer = Runner("Answerer", self._answerer, self._keepers, self._workers)
        for runner in (*ingest, answer):
            runner.start(until_idle and runner is not answer)
        busy = list(ingest)
        last_look = 0.0
        while True:
            busy = [runner for runner in busy if not runner.finished(until_idle)]
            if until_idle and not busy:
                break
            answer.finished(False)
            if time.monotonic() - last_look >= every_s:
                last_look = time.monotonic()
                if not tick(self.status()):
                    return
            time.sleep(0.05)
        if until_idle:
            self._finish_answers(answer)
        tick(self.status())

    def _finish_answers(self, answer: Runner) -> None:
        """All video is in memory: let the Answerer return when nothing is due any more."""
        _gather([self._answerer.finish.remote()])
        while not answer.finished(True):  # one that is restarted meanwhile is told to finish by its `run`
            time.sleep(0.05)

    def status(self) -> SystemStatus:
        """What every part says of itself, within a second; silent ones are left out.

        Raises `GaveUp` when a part is gone for good.
        """
        calls = [a.status.remote() for a in self._ingestors]
        progress = [k.progress.remote() for k in self._keepers]
        answers = self._answerer.status.remote()
        said = _gather([*calls, *progress, answers])
        return SystemStatus(
            ingest=tuple(said[c] for c in calls if c in said),
            feeds=tuple(sorted((p for c in progress for p in said.get(c, ())), key=lambda p: p.feed_id)),
            answers=said.get(answers),
        )

    def stop(self) -> None:
        """Let every part finish what it holds, then end it. Ray is stopped when this run started it."""
        with suppress(GaveUp):  # what is gone for good was told of before, or has nothing left to finish
            _gather([actor.stop.remote() for actor in (*self._ingestors, self._answerer)])
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and any(s.in_flight_clips for s in self.status().ingest):
                time.sleep(0.1)
            _gather([keeper.close.remote() for keeper in self._keepers], timeout=10)
        if not self._config.cluster.address:
            ray.shutdown()
            return
        for actor in (*self._ingestors, self._answerer, *self._keepers, *self._workers):
            ray.kill(actor)

    def _ready(self) -> None:
        """Wait until every actor's constructor has returned. Raises `GaveUp` with the error of one that failed."""
        for actor in (*self._workers, *self._keepers, *self._ingestors, self._answerer):
            try:
                ray.get(actor.pid.remote(), timeout=self._timeout)
            except RayActorError as error:
                raise GaveUp(f"the system could not start: {last_line(error)}") from None
            except GetTimeoutError:
                raise GaveUp(
                    f"the system did not start within {self._timeout:g} s (cluster.call_timeout_s): is there a GPU for "
                    f"each of flow.shards={len(self._workers)}, and is the machine not overloaded?"
                ) from None


def start(config: StandwatchConfig) -> Running:
    """Start all actors of a configuration and save the configuration, as resolved, beside the memory."""
    try:
        config = replace(config, model=resolved(config.model))  # a checkpoint knows its own shapes
    except ValueError as error:
        raise BadInput(f"model.{error}") from None
    memory = Path(config.memory.path)
    if config.cluster.address and not memory.is_absolute():
        raise BadInput(f"memory.path: {memory} is relative; on a Ray cluster give a path that is the same everywhere")
    running = Running(config)
    _keep_configuration(config, memory / "config.yaml")
    return running


def _keep_configuration(config: StandwatchConfig, path: Path) -> None:
    """Save it beside the memory; one that differs stays beside it, for the rows it wrote."""
    if path.exists() and to_yaml(config) not in path.read_text():
        path.rename(path.with_name(f"config-until-{rfc3339(now_ms())}.yaml"))
    save_resolved(config, path)


def _chunk_partitions(config: StandwatchConfig) -> list[int]:
    source = open_source(config.broker, config.topics, config.topics.chunks)
    try:
        return sorted(source.partitions())
    finally:
        source.close()


def _start_ray(config: StandwatchConfig) -> None:
    if config.cluster.address:
        ray.init(address=config.cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        return
    shm = Path("/dev/shm")
    store = config.cluster.object_store_mb * 1024 * 1024
    if shm.is_dir() and shutil.disk_usage(shm).free < store:
        raise BadInput(
            f"cluster.object_store_mb: {config.cluster.object_store_mb} does not fit into /dev/shm; "
            "lower it or give the container more shared memory"
        )
    ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=store,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _actor(kind: type, large_bytes: int = _LARGE_BLOCK) -> Any:  # handles made at run time have no useful static type
    return ray.remote(giving_back(kind, large_bytes))


def _gather(calls: list[Any], timeout: float = 1.0) -> Mapping[Any, Any]:
    """Results of those calls that answered in time and without error. Raises `GaveUp` for an actor gone for good."""
    ready, _ = ray.wait(calls, num_returns=len(calls), timeout=timeout)
    results: dict[Any, Any] = {}
    for call in ready:
        try:
            results[call] = ray.get(call)
        except ActorDiedError as error:
            raise GaveUp(f"a part of the system cannot be started again: {last_line(error)}") from None
        except RayError:
            continue
    return results
