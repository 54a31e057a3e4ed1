"""Decides what can be configured: one frozen tree of dataclasses, checked field by field.

Values live in the YAML profiles beside this file; `load.py` is the only reader of files and environment.
Every check raises `ValueError` with a message that starts with the field's name inside its section;
the loader puts the section's path in front of it.
"""

from dataclasses import dataclass, field


def _check(ok: bool, name: str, problem: str) -> None:
    if not ok:
        raise ValueError(f"{name}: {problem}")


@dataclass(frozen=True)
class TopicsConfig:
    """Names and shape of the topics (Kafka or spool); CONVENTIONS: few topics by type, many partitions."""

    chunks: str = "video.chunks.v1"
    answers: str = "video.answers.v1"
    alerts: str = "video.alerts.v1"
    dead_letters: str = "video.dlq.v1"
    partitions: int = 32
    retention_hours: float = 4.0
    max_record_bytes: int = 10 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("chunks", "answers", "alerts", "dead_letters"):
            _check(bool(getattr(self, name)), name, "a topic needs a name")
        _check(1 <= self.partitions <= 4096, "partitions", f"{self.partitions} is not within 1..4096")
        _check(self.retention_hours > 0, "retention_hours", "must be above 0")
        _check(self.max_record_bytes >= 65_536, "max_record_bytes", "must be at least 65536 (64 KiB)")


@dataclass(frozen=True)
class BrokerConfig:
    """Where the topics are: a Kafka broker, or a spool directory with the same contract."""

    kind: str = "spool"
    spool_dir: str = "runs/spool"
    bootstrap_servers: str = "127.0.0.1:9092"
    group_id: str = "standwatch"
    request_timeout_ms: int = 10_000
    spool_segment_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        _check(self.kind in ("spool", "kafka"), "kind", f"{self.kind!r} is neither 'spool' nor 'kafka'")
        _check(bool(self.spool_dir), "spool_dir", "must not be empty")
        _check(bool(self.bootstrap_servers), "bootstrap_servers", "must not be empty; write HOST:PORT")
        _check(bool(self.group_id), "group_id", "must not be empty")
        _check(self.request_timeout_ms >= 1000, "request_timeout_ms", "must be at least 1000 (milliseconds)")
        _check(self.spool_segment_bytes >= 1_048_576, "spool_segment_bytes", "must be at least 1048576 (1 MiB)")


@dataclass(frozen=True)
class DecodeConfig:
    """Limits and rates of decoding; frames outside `sample_fps` are never converted or copied."""

    sample_fps: float = 1.0
    max_side_px: int = 448
    batch_chunks: int = 128
    parallel: int = 2
    timeout_s: float = 30.0
    max_chunk_ms: int = 30_000
    max_source_pixels: int = 7680 * 4320
    thumbnail_side_px: int = 160
    thumbnail_quality: int = 70

    def __post_init__(self) -> None:
        _check(0.001 <= self.sample_fps <= 60, "sample_fps", f"{self.sample_fps} is not within 0.001..60")
        _check(16 <= self.max_side_px <= 4096, "max_side_px", f"{self.max_side_px} is not within 16..4096")
        _check(1 <= self.batch_chunks <= 256, "batch_chunks", f"{self.batch_chunks} is not within 1..256")
        _check(1 <= self.parallel <= 64, "parallel", f"{self.parallel} is not within 1..64")
        _check(self.timeout_s > 0, "timeout_s", "must be above 0 (seconds)")
        _check(100 <= self.max_chunk_ms <= 60_000, "max_chunk_ms", "must be within 100..60000 (milliseconds)")
        _check(self.max_source_pixels >= 1, "max_source_pixels", "must be at least 1")
        _check(0 <= self.thumbnail_side_px <= 1024, "thumbnail_side_px", "must be within 0..1024; 0 stores none")
        _check(1 <= self.thumbnail_quality <= 95, "thumbnail_quality", "must be within 1..95")


@dataclass(frozen=True)
class FlowConfig:
    """How a shard moves frames: bounds, waits and the size of a compression batch."""

    shards: int = 1
    max_in_flight_clips: int = 32
    batch_clips: int = 8
    batch_wait_ms: int = 100  # how long a clip waits for others, of any feed, to fill a batch with
    poll_records: int = 64
    poll_timeout_ms: int = 100
    flush_partial_clip_ms: int = 3_000
    max_gap_ms: int = 10_000

    def __post_init__(self) -> None:
        _check(1 <= self.shards <= 1024, "shards", f"{self.shards} is not within 1..1024")
        _check(self.max_in_flight_clips >= 1, "max_in_flight_clips", "must be at least 1")
        _check(
            1 <= self.batch_clips <= self.max_in_flight_clips,
            "batch_clips",
            f"{self.batch_clips} is not within 1..max_in_flight_clips ({self.max_in_flight_clips})",
        )
        _check(0 <= self.batch_wait_ms <= 10_000, "batch_wait_ms", "must be within 0..10000 (milliseconds)")
        _check(1 <= self.poll_records <= 10_000, "poll_records", "must be within 1..10000")
        _check(1 <= self.poll_timeout_ms <= 10_000, "poll_timeout_ms", "must be within 1..10000 (milliseconds)")
        _check(self.flush_partial_clip_ms >= 100, "flush_partial_clip_ms", "must be at least 100 (milliseconds)")
        _check(self.max_gap_ms >= 100, "max_gap_ms", "must be at least 100 (milliseconds)")


@dataclass(frozen=True)
class MemoryConfig:
    """The rolling memory: where it lies, how often it becomes durable, what it forgets and when."""

    path: str = "runs/memory"
    commit_ms: int = 1_000
    retention_hours: float = 24.0
    compact_files: int = 16
    file_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        _check(bool(self.path), "path", "must not be empty")
        _check(10 <= self.commit_ms <= 600_000, "commit_ms", "must be within 10..600000 (milliseconds)")
        _check(self.retention_hours > 0, "retention_hours", "must be above 0")
        _check(2 <= self.compact_files <= 1000, "compact_files", "must be within 2..1000")
        _check(self.file_bytes >= 65_536, "file_bytes", "must be at least 65536 (64 KiB)")


@dataclass(frozen=True)
class VisionConfig:
    """A vision tower: "umt" (spec §3), whose clips see all of their frames, or "dinov2", which sees each frame alone.

    `blocks` is the number of blocks that run: of UMT already short of the last. `taps`, of DINOv2 only, are the blocks
    after which features are taken, counted from 1, side by side; where there is none the last block's are, normed.
    """

    tower: str = "umt"
    image_px: int = 448
    patch_px: int = 16
    width: int = 1024
    heads: int = 16
    blocks: int = 23
    mlp_width: int = 4096
    frames_per_clip: int = 4
    taps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", tuple(self.taps))  # YAML and JSON have lists
        _check(self.tower in ("umt", "dinov2"), "tower", f"{self.tower!r} is neither 'umt' nor 'dinov2'")
        for name in ("image_px", "patch_px", "width", "heads", "blocks", "mlp_width", "frames_per_clip"):
            _check(getattr(self, name) >= 1, name, "must be at least 1")
        _check(self.frames_per_clip <= 256, "frames_per_clip", "must be at most 256: memory counts no further")
        _check(self.image_px % self.patch_px == 0, "image_px", f"must be a multiple of patch_px ({self.patch_px})")
        _check(self.width % self.heads == 0, "width", f"must be a multiple of heads ({self.heads})")
        _check(
            list(self.taps) == sorted(set(self.taps) & set(range(1, self.blocks + 1))),
            "taps",
            f"{list(self.taps)} must be increasing numbers of blocks, within 1..{self.blocks}",
        )
        _check(not self.taps or self.tower == "dinov2", "taps", "only the tower 'dinov2' has them; leave them out")

    @property
    def feature_width(self) -> int:
        """Of what the tower says about one patch."""
        return self.width * max(1, len(self.taps))

    @property
    def patches_per_frame(self) -> int:
        return (self.image_px // self.patch_px) ** 2


@dataclass(frozen=True)
class LanguageConfig:
    """Qwen2 decoder (spec §6); the defaults are Qwen2.5-1.5B."""

    layers: int = 28
    width: int = 1536
    mlp_width: int = 8960
    heads: int = 12
    kv_heads: int = 2
    head_dim: int = 128
    vocab: int = 151_936
    rope_theta: float = 1_000_000.0
    rms_eps: float = 1e-6
    qkv_bias: bool = True
    positions: int = 131_072  # the longest sequence it was made for: prefix, frames and text together

    def __post_init__(self) -> None:
        for name in ("layers", "width", "mlp_width", "heads", "kv_heads", "head_dim", "vocab", "positions"):
            _check(getattr(self, name) >= 1, name, "must be at least 1")
        _check(self.heads % self.kv_heads == 0, "heads", f"must be a multiple of kv_heads ({self.kv_heads})")
        _check(self.head_dim % 2 == 0, "head_dim", "must be even (rotary embedding)")


@dataclass(frozen=True)
class ModelConfig:
    """The XComp model: shapes, schedule and precision.

    With `checkpoint` empty, weights are drawn from `seed`: everything is computed for real and means nothing. Else it
    names a folder (or a file of weights in one), and that folder's config.json decides every shape, `frames_per_clip`
    and `tokens_per_frame`: what is set here for them does not count. To change one of them, change it there.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    tokens_per_frame: int = 16  # of the projector
    frame_tokens: int = 16  # in memory: the projector's, compressed while reading; or 1, compressed before
    segment_frames: int = 64  # slots of the sampling grid that one segment of a feed spans; half of them overlap
    keep: str = "suffix"
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    checkpoint: str = ""

    def __post_init__(self) -> None:
        _check(self.tokens_per_frame >= 1, "tokens_per_frame", "must be at least 1")
        _check(
            self.frame_tokens in (1, self.tokens_per_frame),
            "frame_tokens",
            f"{self.frame_tokens} is neither 1 nor tokens_per_frame ({self.tokens_per_frame})",
        )
        _check(
            16 <= self.segment_frames <= 1024 and self.segment_frames % 16 == 0,
            "segment_frames",
            f"{self.segment_frames} is not a multiple of 16 within 16..1024 (halves of whole 8-frame groups)",
        )
        _check(self.keep in ("suffix", "uniform"), "keep", f"{self.keep!r} is neither 'suffix' nor 'uniform'")
        _check(
            self.dtype in ("float32", "bfloat16", "float16"),
            "dtype",
            f"{self.dtype!r} is none of 'float32', 'bfloat16', 'float16'",
        )
        _check(bool(self.device), "device", "must not be empty; write 'cpu' or 'cuda'")
        _check(1 <= self.threads <= 256, "threads", "must be within 1..256")


@dataclass(frozen=True)
class ReadingConfig:
    """How questions are read against memory, and when words are written.

    `method` is "segments": the streaming method, in segments of `model.segment_frames` that every question shares;
    or "passes": the published one, the whole window in one sequence and several passes from 1,024 frames on.
    """

    method: str = "segments"
    cache_mb: int = 256  # keys and values of segments that a worker keeps for the next question
    max_frames: int = 1024
    evidence_frames: int = 16
    unknown_below: float = 0.55
    answer_tokens: int = 24
    repetition_penalty: float = 0.0  # 0: the checkpoint's own (1.1, the published model's, without one)
    poll_ms: int = 200
    max_due_windows: int = 4

    def __post_init__(self) -> None:
        _check(self.method in ("segments", "passes"), "method", f"{self.method!r} is neither 'segments' nor 'passes'")
        _check(1 <= self.cache_mb <= 1_048_576, "cache_mb", "must be within 1..1048576 (MiB)")
        _check(self.max_frames >= 1, "max_frames", "must be at least 1")
        _check(1 <= self.evidence_frames <= 512, "evidence_frames", "must be within 1..512")
        _check(0.5 <= self.unknown_below < 1, "unknown_below", "must be within 0.5..1 (a probability)")
        _check(1 <= self.answer_tokens <= 4096, "answer_tokens", "must be within 1..4096")
        _check(
            self.repetition_penalty >= 0,
            "repetition_penalty",
            "must be above 0, or 0 for the checkpoint's own; 1 switches it off",
        )
        _check(10 <= self.poll_ms <= 60_000, "poll_ms", "must be within 10..60000 (milliseconds)")
        _check(self.max_due_windows >= 1, "max_due_windows", "must be at least 1")


@dataclass(frozen=True)
class ClusterConfig:
    """Where the Ray actors run; an empty address starts Ray on this machine for as long as the run lasts."""

    address: str = ""
    object_store_mb: int = 512
    call_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        _check(self.object_store_mb >= 80, "object_store_mb", "must be at least 80 (Ray's own minimum)")
        _check(self.call_timeout_s > 0, "call_timeout_s", "must be above 0 (seconds)")


@dataclass(frozen=True)
class StandwatchConfig:
    """The whole tree; each part of the system receives its own section, never this root."""

    topics: TopicsConfig = field(default_factory=TopicsConfig)
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
