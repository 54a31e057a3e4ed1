"""One question about the past, put to a memory directory: works while a system writes it and when none does."""

from pathlib import Path

from standwatch.actors.inference import Inference
from standwatch.configs.load import load_resolved
from standwatch.pipeline.answering import adhoc_query, answer_once
from standwatch.pipeline.answers import top_frames
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.lookback import context_from_ms
from standwatch.pipeline.memory import MemoryReader
from standwatch.pipeline.segmentgrid import SegmentGrid
from standwatch.pipeline.types import Answer, ReadRequest, Window


def ask_memory(memory: Path, feed: str, question: str, last_ms: int) -> Answer:
    """Read the last `last_ms` of a feed's memory, counted from its newest frame, and answer in words.

    Raises `BadInput` for a memory or feed that is not there, naming what is.
    """
    reader = MemoryReader(str(memory))
    newest = {f.feed_id: f.last_ms for f in reader.stat().feeds if f.last_ms is not None}
    if feed not in newest:
        raise BadInput(f"--feed: {feed!r} is not in {memory}; it holds {', '.join(sorted(newest)) or 'no feed yet'}")
    config = load_resolved(memory / "config.yaml")
    query = adhoc_query(question, feed)
    inference = Inference(config.model, config.reading, config.decode.sample_fps)
    span = Window(newest[feed] + 1 - last_ms, newest[feed] + 1)
    grid = SegmentGrid(config.decode.sample_fps, config.model.segment_frames)
    held = reader.window(feed, span, context_from_ms(config.reading, grid, span))
    ((reading,),) = inference.read([ReadRequest(held, span, (query,))])
    most = config.reading.evidence_frames
    if config.reading.method == "passes":
        chosen = inference.select(inference.thinned(reader.window(feed, span)), question, most)
    else:
        chosen = top_frames(reading.relevance, most)
    evidence = reader.evidence(feed, span, reading.frame_ms[chosen], reading.relevance[chosen])
    return answer_once(query, reading, evidence, inference)
