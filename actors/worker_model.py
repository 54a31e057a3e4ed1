"""Carries the LanguageModel port to the GpuWorkers: whoever writes words holds no weights of its own."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import ray

from standwatch.pipeline.ports import Completion
from standwatch.pipeline.types import Evidence


class WorkerModel:
    """The models of some GpuWorkers as one, asked in turn. `connect` comes before everything else."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._turns: Iterator[Any] = iter(())
        self._name = self._weights = ""

    def connect(self, workers: Sequence[Any]) -> None:
        """Use these workers from now on. Raises Ray's errors when the first one is not there."""
        self._turns = cycle(workers)
        self._name, self._weights = ray.get(workers[0].model.remote(), timeout=self._timeout_s)

    @property
    def name(self) -> str:
        return self._name

    @property
    def weights(self) -> str:
        return self._weights

    def answer(self, question: str, evidence: Evidence) -> Completion:
        call = next(self._turns).answer.remote(question, evidence)
        completion: Completion = ray.get(call, timeout=self._timeout_s)
        return completion
