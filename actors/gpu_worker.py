"""Ray shell around one model: frames to tokens, questions against tokens, and words about evidence."""

import os
import uuid
from collections.abc import Sequence

from standwatch.configs.schema import ModelConfig, ReadingConfig
from standwatch.pipeline.errors import StaleSession
from standwatch.pipeline.ports import Completion
from standwatch.pipeline.types import (
    Clip,
    Evidence,
    Reading,
    ReadRequest,
    StandingQuery,
    TokenBatch,
    Window,
    WindowTokens,
)


class GpuWorker:
    """The model of one shard. Compression and reading share it and run in the order they were asked for."""

    def __init__(self, model: ModelConfig, reading: ReadingConfig, sample_fps: float) -> None:
        from standwatch.actors.inference import Inference  # torch is for this process alone, not for its starter

        self._inference = Inference(model, reading, sample_fps)
        self._life = ""

    def pid(self) -> int:
        return os.getpid()

    def model(self) -> tuple[str, str]:
        """Name of the model and where its weights come from."""
        return self._inference.name, self._inference.weights

    def forget(self) -> str:
        """Forget every feed. Returns the name of the life that begins; `compress` is for the latest one only."""
        self._inference.forget()
        self._life = uuid.uuid4().hex
        return self._life

    def compress(self, clips: Sequence[Clip], life: str) -> list[TokenBatch]:
        """Tokens of each clip, in order.

        Raises `StaleSession` for another life's clips: a worker that was started anew between two calls is reached
        by the second all the same, and has nothing of what the first one left.
        """
        if life != self._life:
            raise StaleSession("compress: these clips follow others that this worker does not know; forget and rewind")
        return self._inference.compress(clips)

    def read(
        self, asked: Sequence[tuple[Window, tuple[StandingQuery, ...]]], *memories: WindowTokens
    ) -> list[list[Reading]]:
        """Read each window and its queries against the memory at its place.

        The memories are arguments of their own so that Ray fetches them from the keeper: references inside another
        argument would arrive as references, and fetching them first would take their bytes through the caller.
        """
        return self._inference.read([ReadRequest(memory, *one) for memory, one in zip(memories, asked, strict=True)])

    def answer(self, question: str, evidence: Evidence) -> Completion:
        return self._inference.answer(question, evidence)
