"""What the loader makes of profiles, files and arguments, and how it refuses what cannot be right."""

import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from standwatch.configs.load import PROFILES, ConfigError, load_config, load_resolved, save_resolved, to_yaml
from standwatch.configs.schema import DecodeConfig, StandwatchConfig


def refusal(*overrides: str, file: Path | None = None, profile: str = "local") -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(profile, file, overrides)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "Ray has to carry it"
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_loads_and_is_saved_and_read_back(profile: str, tmp_path: Path) -> None:
    config = load_config(profile, None, ())
    assert isinstance(config, StandwatchConfig)
    assert isinstance(config.decode, DecodeConfig)
    save_resolved(config, tmp_path / "config.yaml")
    assert load_resolved(tmp_path / "config.yaml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_the_result_cannot_be_changed() -> None:
    config = load_config("local", None, ())
    with pytest.raises(FrozenInstanceError):
        config.flow.shards = 2  # type: ignore[misc]


def test_arguments_lie_over_the_file_over_the_profile_over_the_defaults(file: Path) -> None:
    file.write_text("flow: {shards: 3, poll_records: 5}\n")
    profile = load_config("demo", None, ())
    config = load_config("demo", file, ["flow.shards=4", "flow.shards=5"])
    assert (config.flow.shards, config.flow.poll_records) == (5, 5)
    assert config.decode.sample_fps == profile.decode.sample_fps != DecodeConfig().sample_fps
    assert config.decode.max_chunk_ms == DecodeConfig().max_chunk_ms
    assert replace(config, flow=profile.flow) == profile


def test_an_empty_file_changes_nothing(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert load_config("local", file, ()) == load_config("local", None, ())


def test_all_profiles_share_one_model() -> None:
    assert len({load_config(profile, None, ()).model for profile in PROFILES}) == 1


def test_values_with_equals_signs_commas_and_colons_stay_whole() -> None:
    config = load_config("kafka", None, ["memory.path=a=b", "broker.bootstrap_servers=one:9092,two:9092"])
    assert config.memory.path == "a=b"
    assert config.broker.bootstrap_servers == "one:9092,two:9092"


def test_the_environment_is_read_where_the_yaml_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STANDWATCH_KAFKA", raising=False)
    assert load_config("kafka", None, ()).broker.bootstrap_servers == "127.0.0.1:9092"
    monkeypatch.setenv("STANDWATCH_KAFKA", "broker-1:9092,broker-2:9092")
    config = load_config("kafka", None, ())
    assert config.broker.bootstrap_servers == "broker-1:9092,broker-2:9092"
    assert "broker-1:9092" in to_yaml(config), "what is saved no longer depends on the environment"


def test_an_interpolation_without_a_value_is_refused(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.delenv("STANDWATCH_NOWHERE", raising=False)
    file.write_text("memory: {path: '${oc.env:STANDWATCH_NOWHERE}'}\n")
    message = refusal(file=file)
    assert message.startswith("memory.path: ")
    assert "'STANDWATCH_NOWHERE' not found" in message
    assert refusal("memory.path=${nothing}").startswith("memory.path: ")


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("decode.sample_pfs=2", "decode.sample_fps"),
        ("sample_fps=2", "decode.sample_fps"),
        ("decod.sample_fps=2", "decode"),
        ("model.vision.wdth=384", "model.vision.width"),
        ("flow.shards.number=2", "flow.shards"),
    ],
)
def test_an_unknown_key_is_refused_with_a_guess(override: str, meant: str) -> None:
    message = refusal(override)
    assert override.startswith(message.partition(": ")[0])
    assert "no such key" in message
    assert f"did you mean {meant!r}?" in message


def test_an_unknown_key_like_none_that_exists_is_refused_with_where_to_look() -> None:
    assert refusal("q.w=1") == "q: no such key (in argument 'q.w=1'); see `standwatch config` for all keys"


def test_an_unknown_key_in_a_file_names_the_file(file: Path) -> None:
    file.write_text("flow:\n  shard: 3\n")
    assert refusal(file=file) == f"flow.shard: no such key (in {file}); did you mean 'flow.shards'?"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("flow.shards=two", "a whole number"),
        ("flow.shards=2.5", "a whole number"),
        ("flow.shards=true", "a whole number"),
        ("flow.shards=", "a whole number"),
        ("flow.shards=[1]", "a whole number"),
        ("decode.sample_fps=fast", "a number"),
        ("model.language.qkv_bias=maybe", "true or false"),
        ("memory.path=null", "a text"),
        ("memory.path=[a]", "a text"),
    ],
)
def test_a_wrong_type_is_refused_with_the_right_one(override: str, expected: str) -> None:
    message = refusal(override)
    assert message.startswith(override.partition("=")[0] + ": ")
    assert message.endswith(f"expected {expected}")
    assert repr(override) in message


@pytest.mark.parametrize("content", ["flow: 3", "flow:", "flow: [1]"])
def test_a_section_is_no_value(content: str, file: Path) -> None:
    file.write_text(content)
    assert refusal(file=file).startswith("flow: is a section")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("decode.sample_fps=0", "decode.sample_fps: 0.0 is not within 0.001..60"),
        ("decode.sample_fps=.nan", "decode.sample_fps: nan is not a finite number; give it one"),
        ("memory.retention_hours=.inf", "memory.retention_hours: inf is not a finite number; give it one"),
        ("broker.kind=redis", "broker.kind: 'redis' is neither 'spool' nor 'kafka'"),
        ("flow.shards=0", "flow.shards: 0 is not within 1..1024"),
        ("model.vision.width=385", "model.vision.width: must be a multiple of heads (6)"),
        (
            "model.vision.frames_per_clip=257",
            "model.vision.frames_per_clip: must be at most 256: memory counts no further",
        ),
        ("memory.path=''", "memory.path: must not be empty"),
        ("flow.batch_wait_ms=-1", "flow.batch_wait_ms: must be within 0..10000 (milliseconds)"),
        ("reading.method=stream", "reading.method: 'stream' is neither 'segments' nor 'passes'"),
        ("reading.cache_mb=0", "reading.cache_mb: must be within 1..1048576 (MiB)"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_full_name(override: str, message: str) -> None:
    assert refusal(override) == message


@pytest.mark.parametrize("override", ["flow.shards", "=3", "flow shards=3", "--shards=3", "flow.shards[0]=1", ""])
def test_what_is_no_override_is_refused_with_an_example(override: str) -> None:
    assert refusal(override).endswith("is not an override; write section.key=value, as in decode.sample_fps=2")


@pytest.mark.parametrize("override", ["flow.shards=[1", 'memory.path="a', "memory.path=a: b: c"])
def test_an_override_that_is_no_yaml_is_refused(override: str) -> None:
    key, _, value = override.partition("=")
    assert refusal(override).startswith(f"{key}: {value!r} cannot be read as a value")


def test_an_unknown_profile_is_refused_with_the_ones_there_are() -> None:
    message = refusal(profile="loca")
    assert "'loca' is no profile" in message
    assert all(profile in message for profile in PROFILES)


def test_profiles_are_the_yaml_files_that_say_so() -> None:
    folder = Path(__file__).resolve().parents[1] / "configs"
    parts = {"demo-model", "demo-queries"}
    assert {path.stem for path in folder.glob("*.yaml")} - parts == set(PROFILES)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    assert refusal(file=absent) == f"{absent}: no such file; check the path"
    assert refusal(file=tmp_path).startswith(f"{tmp_path}: cannot be read as YAML")
    with pytest.raises(ConfigError, match="no such file"):
        load_resolved(absent)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"flow:\n  shards: [1\nx: }\n", 3),
        (b"flow:\n\tshards: 1\n", 2),
        (b"flow: {shards: 1}\nflow: {shards: 2}\n", 2),
        (b"flow: !!python/object:os.system {}\n", 1),
        (b"flow: &a\n  shards: *a\n", 1),
    ],
)
def test_broken_yaml_is_refused_with_its_line(content: bytes, line: int, file: Path) -> None:
    file.write_bytes(content)
    assert refusal(file=file).startswith(f"{file}:{line}: is not valid YAML (")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x81", b"flow: \x00", b"memory: {path: '${oc.env:A'}", b"- a", b"3"])
def test_a_file_that_is_no_mapping_is_refused_with_its_name(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert refusal(file=file).startswith(f"{file}: ")
