"""The same job in one process: no Ray, one thread, the same cores and ports. For tests of everything but the shells."""

from pathlib import Path

from standwatch.configs.schema import StandwatchConfig
from standwatch.pipeline.answering import Answering
from standwatch.pipeline.batching import ClipBatcher
from standwatch.pipeline.clock import now_ms
from standwatch.pipeline.deadletters import bury
from standwatch.pipeline.decode import ChunkDecoder
from standwatch.pipeline.flow import IngestFlow, Intake
from standwatch.pipeline.lookback import context_from_ms
from standwatch.pipeline.ports import Compressor, LanguageModel, QuestionReader, Sink, Source
from standwatch.pipeline.querystore import QueryStore
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.shard import MemoryShard
from standwatch.pipeline.types import Due, ReadRequest


class LocalPipeline:
    """Ingests one topic into one memory and answers the standing queries; starting is recovering here too."""

    def __init__(
        self,
        config: StandwatchConfig,
        source: Source,
        sink: Sink,
        compressor: Compressor,
        reader: QuestionReader,
        model: LanguageModel,
    ) -> None:
        self._config, self._source, self._sink = config, source, sink
        self._compressor, self._reader = compressor, reader
        self._partitions = sorted(source.partitions())
        self._grid = SegmentGrid(config.decode.sample_fps, config.model.segment_frames)
        topic = config.topics.chunks
        frames_per_clip = config.model.vision.frames_per_clip
        self._flow = IngestFlow(topic, config.decode, config.flow, frames_per_clip, ChunkDecoder(config.decode))
        self.memory = MemoryShard(config.memory, topic, self._partitions)
        root = Path(config.memory.path)
        self._store = QueryStore(root / "queries")
        self._answering = Answering(config.reading, config.topics, root / "answering", model)
        self._seq = 0
        self._rewind()

    def run_until_idle(self) -> None:
        """Ingest and answer all that has been published so far."""
        flow = self._config.flow
        while records := self._source.poll(flow.poll_records, flow.poll_timeout_ms):
            self._take_in(self._flow.take(records, now_ms()))
            self.answer_due()
        self._take_in(self._flow.flush(now_ms(), everything=True), everything=True)
        self.memory.commit(now_ms())
        self.memory.maintain(now_ms())
        while self.answer_due():
            pass

    def answer_due(self) -> bool:
        """Answer what is due now; True when there was something."""
        if self._store.changed():
            queries, _ = self._store.load()
            for event in self._answering.refresh_queries(queries, now_ms()):
                self._sink.send(event)
        dues = self._answering.due(self.memory.progress())
        for due in dues:
            self._conclude(due)
        self._sink.flush()
        self._answering.settle(dues)
        return bool(dues)

    def close(self) -> None:
        self.memory.commit(now_ms())
        self.memory.close()

    def _rewind(self) -> None:
        self._compressor.forget()
        state = self.memory.rewind(self._grid if self._config.model.frame_tokens == 1 else None)
        self._session, self._seq = state.session, 0
        flow = self._config.flow
        self._batcher = ClipBatcher(flow.batch_clips, flow.batch_wait_ms, state.positions)
        self._flow.rewind(state)
        self._source.assign({p: state.positions.get(p) for p in self._partitions})

    def _take_in(self, intake: Intake, everything: bool = False) -> None:
        bury(intake.dead, self._config.topics.dead_letters, self._sink)
        self._batcher.add(intake, now_ms())
        for batch in self._batcher.release(now_ms(), everything):
            tokens = self._compressor.compress(batch.clips) if batch.clips else []
            self.memory.append(self._session, self._seq, tokens, batch.positions)
            self._seq += 1

    def _conclude(self, due: Due) -> None:
        since_ms = context_from_ms(self._config.reading, self._grid, due.window)
        memory = self.memory.window(due.feed_id, due.window, since_ms)
        ((reading,),) = self._reader.read([ReadRequest(memory, due.window, (due.query,))])
        wanted = self._answering.wanted(due, reading)
        evidence = self.memory.evidence(due.feed_id, due.window, reading.frame_ms[wanted], reading.relevance[wanted])
        for event in self._answering.conclude(due, reading, evidence, now_ms()):
            self._sink.send(event)
