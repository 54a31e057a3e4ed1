"""Decides how rows of memory look in Arrow: the schema, one record batch per feed, and views of it without copying."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.files import Files, NewFile
from standwatch.pipeline.manifest import RowFile, check_format
from standwatch.pipeline.types import Float16Array, Int64Array, TokenBatch, UInt8Array

ROW_FORMAT = 2

Schema = Any  # pyarrow carries no types
RecordBatch = Any


@dataclass(frozen=True, slots=True)
class Shape:
    """What all rows of one file have in common."""

    token_space: str
    tokens: int  # n
    width: int  # D

    @classmethod
    def of(cls, thing: TokenBatch | RowFile) -> "Shape":
        if isinstance(thing, RowFile):
            return cls(thing.token_space, thing.tokens, thing.width)
        return cls(thing.token_space, thing.tokens.shape[1], thing.tokens.shape[2])

    def __str__(self) -> str:
        return f"{self.tokens} x {self.width} of {self.token_space!r}"


@lru_cache(maxsize=64)
def row_schema(shape: Shape) -> Schema:
    """The Arrow schema of a file of rows."""
    fields = [
        pa.field("feed_id", pa.string(), nullable=False),
        pa.field("frame_ms", pa.int64(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("tokens", pa.list_(pa.field("item", pa.float16(), nullable=False), shape.tokens * shape.width)),
        pa.field("n", pa.int32(), nullable=False),
        pa.field("thumbnail", pa.binary()),
        pa.field("clip_frame", pa.uint8(), nullable=False),  # place of the frame in its clip: 0 where one begins
    ]
    metadata = {
        "standwatch.format": str(ROW_FORMAT),
        "standwatch.token_space": shape.token_space,
        "standwatch.n": str(shape.tokens),
        "standwatch.d": str(shape.width),
    }
    return pa.schema(fields, metadata=metadata)


def shape_in(schema: Schema, path: str) -> Shape:
    """What a file says of itself. Raises `BadInput` when it is not a file of rows in a format that we read."""
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    found = metadata.get("standwatch.format", "")
    if not found.isdecimal():
        raise BadInput(f"{path}: does not say that it holds rows of memory; it was not written by standwatch")
    check_format(path, int(found), ROW_FORMAT)
    shape = Shape(metadata["standwatch.token_space"], int(metadata["standwatch.n"]), int(metadata["standwatch.d"]))
    if not schema.equals(row_schema(shape)):
        raise BadInput(f"{path}: its columns are not those of format {ROW_FORMAT}")
    return shape


def to_record_batch(schema: Schema, batches: Sequence[TokenBatch]) -> RecordBatch:
    """Token batches of one feed and shape, in the order of time, as one record batch. Tokens of one are not copied."""
    first = batches[0]
    frame_ms = np.concatenate([batch.frame_ms for batch in batches])
    tokens = first.tokens if len(batches) == 1 else np.concatenate([batch.tokens for batch in batches])
    rows, n, _ = tokens.shape
    flat = np.ascontiguousarray(tokens, dtype=np.float16)
    values = pa.Array.from_buffers(pa.float16(), flat.size, [None, pa.py_buffer(flat)])
    pictures = [image or None for batch in batches for image in batch.thumbnails or (None,) * len(batch.frame_ms)]
    columns = [
        pa.array([first.feed_id] * rows, pa.string()),
        pa.array(frame_ms),
        pa.array(np.full(rows, first.at.partition, np.int32)),
        pa.array(np.concatenate([batch.frame_offset for batch in batches])),
        pa.FixedSizeListArray.from_arrays(values, type=schema.field("tokens").type),
        pa.array(np.full(rows, n, np.int32)),
        pa.array(pictures, pa.binary()),
        pa.array(np.concatenate([_places(batch) for batch in batches])),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _places(batch: TokenBatch) -> UInt8Array:
    """The place of each frame in its clip."""
    return np.arange(batch.clip_frame, batch.clip_frame + len(batch.frame_ms)).astype(np.uint8)


def joined(schema: Schema, batches: Sequence[RecordBatch]) -> RecordBatch:
    """Record batches of one feed, one after the other, as one."""
    if len(batches) == 1:
        return batches[0]
    columns = [pa.concat_arrays([batch.column(i) for batch in batches]) for i in range(len(schema))]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def write_rows(file: NewFile, schema: Schema, batches: Sequence[RecordBatch]) -> None:
    """A small file of rows, in one write."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    file.write(sink.getvalue())


class RowWriter:
    """A large file of rows, a record batch at a time, so that only one is in RAM."""

    def __init__(self, file: NewFile, schema: Schema) -> None:
        self._writer = pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema)

    def write(self, batch: RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


class RowReader:
    """One file of rows, mapped. The arrays it gives are views of the map and keep it alive."""

    def __init__(self, files: Files, name: str) -> None:
        """Raises `FileNotFoundError` when it is gone and `BadInput` when it is not readable."""
        self.path = files.path(name)
        source = files.open(name)
        try:
            self._reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid as error:
            raise BadInput(f"{self.path}: damaged ({error}); `standwatch memory verify` lists what is wrong") from None
        self.shape = shape_in(self._reader.schema, self.path)

    @property
    def batches(self) -> int:
        return int(self._reader.num_record_batches)

    def batch(self, index: int) -> "RowBatch":
        """One feed's rows. Nothing but its description is read."""
        try:
            return RowBatch(self._reader.get_batch(index), self.shape)
        except (pa.ArrowInvalid, OSError, IndexError) as error:
            raise BadInput(f"{self.path}: damaged ({error}); `standwatch memory verify` lists what is wrong") from None


class RowBatch:
    """Numpy views of one feed's rows."""

    def __init__(self, batch: RecordBatch, shape: Shape) -> None:
        self.arrow = batch
        self.rows = int(batch.num_rows)
        self._shape = (self.rows, shape.tokens, shape.width)

    @property
    def frame_ms(self) -> Int64Array:
        view: Int64Array = self.arrow.column(1).to_numpy(zero_copy_only=True)
        return view

    @property
    def offset(self) -> Int64Array:
        view: Int64Array = self.arrow.column(3).to_numpy(zero_copy_only=True)
        return view

    @property
    def tokens(self) -> Float16Array:
        view: Float16Array = self.arrow.column(4).values.to_numpy(zero_copy_only=True).reshape(self._shape)
        return view

    @property
    def clip_frame(self) -> UInt8Array:
        view: UInt8Array = self.arrow.column(7).to_numpy(zero_copy_only=True)
        return view

    def feed_ids(self) -> set[str]:
        return set(self.arrow.column(0).unique().to_pylist())

    def partitions(self) -> set[int]:
        return set(self.arrow.column(2).unique().to_pylist())

    def thumbnail(self, row: int) -> bytes:
        """A row's JPEG; empty when none was stored."""
        return self.arrow.column(6)[row].as_py() or b""


def give_back_memory() -> None:
    """Let the system have what Arrow keeps for later: a merge needs for a moment what nothing else will need again."""
    pa.default_memory_pool().release_unused()
