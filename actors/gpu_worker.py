"""Ray shell around one model: frames to tokens, questions against tokens, and words about evidence."""

import os
from collections.abc import Sequence

from standwatch.configs.schema import ModelConfig, ReadingConfig
from standwatch.pipeline.ports import Completion
from standwatch.pipeline.types import Clip, Evidence, Reading, StandingQuery, TokenBatch, WindowTokens


class GpuWorker:
    """The model of one shard. Compression and reading share it and run in the order they were asked for."""

    def __init__(self, model: ModelConfig, reading: ReadingConfig) -> None:
        from standwatch.actors.inference import Inference  # torch is for this process alone, not for its starter

        self._inference = Inference(model, reading)

    def pid(self) -> int:
        return os.getpid()

    def model(self) -> tuple[str, str]:
        """Name of the model and where its weights come from."""
        return self._inference.name, self._inference.weights

    def compress(self, clips: Sequence[Clip]) -> list[TokenBatch]:
        return self._inference.compress(clips)

    def read(self, window: WindowTokens, queries: Sequence[StandingQuery]) -> list[Reading]:
        return self._inference.read(window, queries)

    def answer(self, question: str, evidence: Evidence) -> Completion:
        return self._inference.answer(question, evidence)
