"""Ray shell around one model: frames to tokens, and questions against tokens."""

import os
from collections.abc import Sequence

from standwatch.actors.inference import Inference
from standwatch.configs.schema import ModelConfig, ReadingConfig
from standwatch.pipeline.types import Clip, Reading, StandingQuery, TokenBatch, WindowTokens


class GpuWorker:
    """The model of one shard. Compression and reading share it and run in the order they were asked for."""

    def __init__(self, model: ModelConfig, reading: ReadingConfig) -> None:
        self._inference = Inference(model, reading)

    def pid(self) -> int:
        return os.getpid()

    def compress(self, clips: Sequence[Clip]) -> list[TokenBatch]:
        return self._inference.compress(clips)

    def read(self, window: WindowTokens, queries: Sequence[StandingQuery]) -> list[Reading]:
        return self._inference.read(window, queries)
