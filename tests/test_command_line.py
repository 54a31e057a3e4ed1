"""What the command line says: help for every command, and for every mistake one clear line and the right exit code."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from standwatch import __version__
from standwatch.actors import cli
from standwatch.actors.topics import open_source
from standwatch.configs.schema import BrokerConfig, DecodeConfig, TopicsConfig
from standwatch.pipeline.codec import read_chunk
from standwatch.pipeline.decode import ChunkDecoder, Decoded
from standwatch.pipeline.types import Chunk
from tests.footage_video import convert, draw, shown
from tests.kafka_broker import Broker
from tests.memory_rows import Keeper, batch
from tests.system import BOTTLES, START, START_MS, kafka_place, standwatch

AWAY = "127.0.0.1:1"  # a port that nobody listens on


@dataclass(frozen=True)
class Said:
    """What a command printed, and the code it ended with."""

    code: int
    out: str
    err: str


Shell = Callable[..., Said]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """Runs `main` in this process (starting one takes half a second); what `main` does not catch fails the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["standwatch", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code or 0
        assert isinstance(code, int)
        return Said(code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files to make mistakes with, and a memory that holds two frames of the feed 'gate'."""
    made = tmp_path_factory.mktemp("command-line")
    (made / "empty.mp4").write_bytes(b"")
    (made / "text.mp4").write_text("this is no video")
    (made / "list.yaml").write_text("- decode\n")
    (made / "typo.yaml").write_text("decode:\n  sample_pfs: 2\n")
    (made / "broken.yaml").write_text("decode: [\n")
    (made / "query-typo.yaml").write_text("query_id: a\nquestion: Is it open?\nevry: 10s\n")
    (made / "query-mute.yaml").write_text("queries:\n  - query_id: a\n    question: Is it open?\n  - query_id: b\n")
    (made / "a-file").write_text("")
    (made / "empty-folder").mkdir()
    convert(made / "sound.mp4", "-f", "lavfi", "-i", "sine=d=1")
    Keeper(made / "memory").commit(batch("gate", [1000, 2000]))
    return made


LONG = "x" * 300
# Command, exit code, how the one line begins, and what else it says: the fix, or what there is instead.
MISTAKES = [
    ("run decode.fps=2", 2, "decode.fps: no such key", "did you mean 'decode.sample_fps'?"),
    ("run decode.sample_fps=fast", 2, "decode.sample_fps: ", "expected a number"),
    ("run flow.shards=1.5", 2, "flow.shards: ", "expected a whole number"),
    ("run decode.sample_fps=100", 2, "decode.sample_fps: 100.0 is not within ", "0.001..60"),
    ("run decode", 2, "decode: is not an override", "write section.key=value"),
    ("run decode=2", 2, "decode: ", "set one of its keys"),
    ("run --config cafka", 2, "--config: 'cafka' is no profile", "demo, kafka, local"),
    ("run --file {folder}/none.yaml", 2, "{folder}/none.yaml: no such file", "check the path"),
    ("run --file {folder}/empty-folder", 2, "{folder}/empty-folder: cannot be read", "YAML"),
    ("run --file {folder}/list.yaml", 2, "{folder}/list.yaml: holds a list", "write keys and values"),
    ("run --file {folder}/typo.yaml", 2, "decode.sample_pfs: no such key", "typo.yaml"),
    ("run --file {folder}/broken.yaml", 2, "{folder}/broken.yaml:2: is not valid YAML", ""),
    ("config memory.commit_ms=1", 2, "memory.commit_ms: ", "within 10..600000"),
    ("demo --for soon", 2, "--for: 'soon' is not a duration", "for example"),
    ("demo flow.shards=0", 2, "flow.shards: 0 is not within ", "1..1024"),
    ("topics check --config cafka", 2, "--config: 'cafka' is no profile", "demo, kafka, local"),
    ("topics check broker.bootstrap_servers={away}", 1, "broker.bootstrap_servers: no answer", "is it running"),
    ("topics create broker.bootstrap_servers={away}", 1, "broker.bootstrap_servers: no answer", "is it running"),
    ("topics check broker.bootstrap_servers=kafka", 2, "broker.bootstrap_servers: 'kafka' ", "HOST:PORT"),
    ("query add --id a", 2, "question: ", "give either a question"),
    ("query add 'Open?' --id a --file q.yaml", 2, "question: ", "give either a question"),
    ("query add 'Open?'", 2, "--id: is missing", "--id person"),
    ("query add ' ' --id a", 2, "query add: question: is empty", "in plain language"),
    ("query add 'Open?' --id a/b", 2, "query add: query_id: 'a/b' cannot name a query", "1 to 128"),
    ("query add 'Open?' --id a --every soon", 2, "query add: every: 'soon' is not a duration", "30s"),
    ("query add 'Open?' --id a --window 0s", 2, "query add: window: '0s' must be above 0", "30s"),
    ("query add 'Open?' --id a --feeds x/y", 2, "query add: feeds: 'x/y' ", "such as dock-*"),
    ("query add 'Open?' --id a --kind maybe", 2, "query add: kind: ", "yes_no"),
    ("query add 'Open?' --id a --open-at 2", 2, "query add: open_at: 2.0 ", "within 0..1"),
    ("query add 'Open?' --id a --severity mild", 2, "query add: severity: ", "critical"),
    ("query add --file {folder}/none.yaml", 2, "{folder}/none.yaml: cannot be read", "check the path"),
    ("query add --file {folder}/query-typo.yaml", 2, "{folder}/query-typo.yaml: evry: unknown key", "'every'"),
    ("query add --file {folder}/query-mute.yaml", 2, "{folder}/query-mute.yaml: queries[1].question: ", "missing"),
    ("query add --file {folder}/broken.yaml", 2, "{folder}/broken.yaml: not valid YAML", "line 2"),
    ("query add 'Open?' --id a --memory {folder}/a-file", 1, "{folder}/a-file/queries: ", "Not a directory"),
    ("query show a", 2, "query_id: there is no query 'a'", "there are: none"),
    ("query remove a", 2, "query_id: there is no query 'a'", "there are: none"),
    ("ask 'Who?' --feed gate --last 10", 2, "--last: '10' is not a duration", "10m"),
    ("ask 'Who?' --feed gate --memory {folder}/none", 2, "memory.path: there is no directory", "name the memory.path"),
    ("ask 'Who?' --feed yard --memory {folder}/memory", 2, "--feed: 'yard' is not in ", "it holds gate"),
    ("ask 'Who?' --feed yard --memory {folder}/empty-folder", 2, "--feed: 'yard' is not in ", "no feed yet"),
    ("memory stat --memory {folder}/none", 2, "memory.path: there is no directory", "name the memory.path"),
    ("memory verify --memory {folder}/none", 2, "memory.path: there is no directory", "name the memory.path"),
    ("memory verify --memory {folder}/a-file", 2, "memory.path: there is no directory", "name the memory.path"),
    ("memory export {out}.arrow --feed gate --memory {folder}/none", 2, "memory.path: there is no ", "of a run"),
    ("memory export {out}.arrow --feed yard --memory {folder}/memory", 2, "feed: 'yard' is not in ", "it holds gate"),
    ("memory export {out}.csv --feed gate --memory {folder}/memory", 2, "out: ", ".parquet nor .arrow"),
    ("train film --stills --windows", 2, "--stills: goes with neither --windows nor --context", "leave out"),
    ("train film --real --windows", 2, "--real: goes with none of ", "leave them out"),
    ("train film --real --varied", 2, "--real: goes with none of ", "leave them out"),
    ("train film --pictures --from {video}", 2, "--from: nobody sees ", "leave out one or the other"),
    ("train film --of dog", 2, "--of: goes with --stills or --windows", "add one of them"),
    ("train film --stills --of fall", 2, "--of: 'fall' is none of ", "choose one of person, "),
    ("train film --windows --of unicorn", 2, "--of: 'unicorn' is none of ", "fall, fire, left behind"),
    ("train run tune --to {out} --known {out}", 2, "--known: vision does not learn in tune", "choose see or observe"),
    ("train run align --to {out} --freeze-projector", 2, "--freeze-projector: in align it learns", "leave it out"),
    ("train hide --lessons {out} --to {out}", 2, "--lessons: ", "has none; film some first"),
    ("train run learn --to {out}", 2, "stage: 'learn' is none", "align, see, observe, tune, compress"),
    ("publish {video} --feed yard/1", 2, "--feed: 'yard/1' cannot name a feed", "1 to 128 letters"),
    (f"publish {{video}} --feed {LONG}", 2, "--feed: 'xxxx", "(300 characters)' cannot name a feed; use 1 to 128"),
    ("publish {video} --feed yard --to cellar", 2, "--to: 'cellar' is not a destination", "spool:DIR or kafka://"),
    ("publish {video} --feed yard --to kafka://host:9092", 2, "--to: ", "kafka://HOST:PORT/TOPIC"),
    (
        "publish {video} --feed yard --fast --to kafka://{away}/t",
        1,
        "broker.bootstrap_servers: no answer",
        "is it running",
    ),
    ("publish {video} --feed yard --fast --to kafka://host/t", 2, "broker.bootstrap_servers: 'host' ", "HOST:PORT"),
    ("publish {video} --feed yard --fast --to spool:{folder}/a-file", 1, "broker.spool_dir: {folder}/a-file", ""),
    ("publish {video} --feed yard --start noon", 2, "--start: 'noon' is not an RFC 3339 time", "2026-11-21T09:30:00Z"),
    ("publish {video} --feed yard --start 2026-02-30T00:00:00Z", 2, "--start: ", "is not a real time"),
    ("publish rtsp://host/1 --feed yard --start {start}", 2, "--start: only a file", "live stream's time is now"),
    ("publish rtsp://{away}/1 --feed yard", 1, "source: ", "refused"),
    ("publish ftp://host/1 --feed yard", 2, "source: 'ftp://host/1' is none of a file, rtsp://", "http://"),
    ("publish {folder}/none.mp4 --feed yard", 2, "source: there is no file", "none.mp4"),
    ("publish {folder} --feed yard", 2, "source: ", "is not a file"),
    ("publish {folder}/empty.mp4 --feed yard", 2, "source: ", "is empty (0 bytes)"),
    ("publish {folder}/sound.mp4 --feed yard", 2, "source: no video stream in it", "that contains video"),
    ("publish {folder}/text.mp4 --feed yard", 2, "source: cannot be read as video", ""),
]


@pytest.mark.parametrize(("line", "code", "begins", "says"), MISTAKES, ids=[line[:60] for line, *_ in MISTAKES])
def test_a_mistake_gets_one_line_that_names_the_field_and_the_fix(
    line: str,
    code: int,
    begins: str,
    says: str,
    shell: Shell,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # commands write below it when not told where
    facts = {"folder": folder, "out": tmp_path / "out", "video": BOTTLES, "away": AWAY, "start": START}
    said = shell(*shlex.split(line.format(**facts)))
    assert said.code == code, said
    (only,) = said.err.splitlines()
    assert only.startswith("error: " + begins.format(**facts))
    assert says in only
    assert said.out == ""
    assert not list(tmp_path.iterdir()), "a mistaken command leaves nothing behind"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("publish", "Missing argument 'FILE|URL'"),
        ("publish a.mp4", "Missing option '--feed'"),
        ("ask", "Missing argument 'question'"),
        ("query add 'Open?' --id a --open-at much", "Invalid value for '--open-at'"),
        ("run --until-idel", "No such option: --until-idel"),
        ("watch", "No such command 'watch'"),
    ],
)
def test_a_line_that_cannot_be_understood_is_refused_with_where_to_get_help(line: str, says: str, shell: Shell) -> None:
    said = shell(*shlex.split(line))
    assert said.code == 2
    assert says in said.err
    assert "--help" in said.err


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below this one, with its name in words; typer's own types for them are private."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_each_of_its_options(path: tuple[str, ...], shell: Shell) -> None:
    command = COMMANDS[path]
    said = shell(*path, "--help")
    assert said.code == 0
    assert said.err == ""
    assert command.help is not None and len(command.help) > 20
    assert command.help.split()[0] in said.out
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"
        assert max(parameter.opts, key=len).lstrip("-") in said.out or parameter.metavar in said.out


def test_the_commands_of_the_readme_are_there() -> None:
    named = {"demo", "run", "publish", "ask", "config", "query add", "query list", "query show", "query remove"}
    named |= {"memory stat", "memory verify", "memory export", "topics create", "topics check"}
    assert named <= {" ".join(path) for path in COMMANDS}


def test_without_arguments_the_help_is_shown(shell: Shell) -> None:
    said = shell()
    assert "standwatch demo" in said.out + said.err


def test_the_version_is_printed_by_the_real_command() -> None:
    assert standwatch("--version").stdout == f"{__version__}\n"


def test_a_run_whose_broker_is_away_says_so_before_it_starts_anything(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    settings = (f"broker.bootstrap_servers={AWAY}", f"memory.path={memory}")
    said = standwatch("run", "--config", "kafka", "--json", *settings, code=1)
    (only,) = said.stderr.splitlines()
    assert only.startswith(f"error: broker.bootstrap_servers: no answer from Kafka at {AWAY}")
    assert said.stdout == ""
    assert not memory.exists()


def test_no_cheap_command_imports_ray_or_torch(tmp_path: Path) -> None:
    script = "import sys; import standwatch.actors.cli; print([m for m in ('ray', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


def test_a_query_is_added_listed_shown_replaced_and_removed(shell: Shell, tmp_path: Path) -> None:
    memory = ("--memory", str(tmp_path))
    assert shell("query", "add", "Is it open?", "--id", "door", *memory).out == "door version 1: Is it open?\n"
    assert shell("query", "add", "Is it shut?", "--id", "door", *memory).out == "door version 2: Is it shut?\n"
    (listed,) = json.loads(shell("query", "list", "--json", *memory).out)
    assert (listed["query_id"], listed["version"], listed["question"]) == ("door", 2, "Is it shut?")
    file = tmp_path / "shown.yaml"
    file.write_text(shell("query", "show", "door", *memory).out)
    assert shell("query", "remove", "door", *memory).out == "door removed\n"
    assert shell("query", "list", "--json", *memory).out == "[]\n"
    assert shell("query", "add", "--file", str(file), *memory).out.endswith(": Is it shut?\n")


def published(shell: Shell, video: Path, spool: Path) -> list[Chunk]:
    """The chunks of a file as a consumer finds them in the spool that `publish --json` has written."""
    said = shell(
        "publish", str(video), "--feed", "yard", "--to", f"spool:{spool}", "--fast", "--json", "--start", START
    )
    assert (said.code, said.err) == (0, "")
    topics = TopicsConfig()
    source = open_source(BrokerConfig(spool_dir=str(spool)), topics, topics.chunks)
    source.assign({partition: None for partition in source.partitions()})
    records = []
    while some := source.poll(100, 1):
        records += some
    source.close()
    found = [read_chunk(record) for record in records]
    told = json.loads(said.out)
    assert (told["feed"], told["chunks"], told["bytes"]) == ("yard", len(found), sum(len(c.payload) for c in found))
    return found


def uneven(path: Path) -> Path:
    """A film whose frames come at 10/s, then every 300 ms, then after a pause of a second."""
    kept = "lt(n,12)+between(n,12,36)*not(mod(n,3))+gt(n,46)"
    return draw(path, "-vf", f"select='{kept}'", "-fps_mode", "vfr", "-c:v", "libx264", "-g", "10", seconds=6)


def turned(path: Path) -> Path:
    """A phone's portrait film: stored lying, with a note to turn it."""
    flat = draw(path.with_name("flat.mp4"))
    return convert(path, "-display_rotation", "90", "-i", str(flat), "-c", "copy")


def one_pixel(path: Path) -> Path:
    return draw(path.with_suffix(".mkv"), "-vf", "crop=1:1:20:20,format=bgr0", "-c:v", "ffv1")


@pytest.mark.parametrize(
    ("made", "size"),
    [(draw, (36, 64)), (uneven, (36, 64)), (turned, (64, 36)), (one_pixel, (2, 2))],
    ids=["plain", "variable frame rate", "portrait by rotation", "1x1"],
)
def test_an_unusual_video_is_published_with_its_own_times_and_pictures(
    made: Callable[[Path], Path], size: tuple[int, int], shell: Shell, tmp_path: Path
) -> None:
    video = made(tmp_path / "video.mp4")
    decoder = ChunkDecoder(DecodeConfig(sample_fps=60.0))
    (outcomes,) = decoder.decode([published(shell, video, tmp_path / "spool")])
    decoder.close()
    decoded = [outcome for outcome in outcomes if isinstance(outcome, Decoded)]
    assert decoded == outcomes
    times = [int(at) for outcome in decoded for at in outcome.frame_ms]
    frames = [frame for outcome in decoded for frame in outcome.frames]
    truth = shown(video)
    assert len(times) == len(truth)
    assert max(abs(at - START_MS - one.at_ms) for at, one in zip(times, truth, strict=True)) <= 1
    for frame, one in zip(frames, truth, strict=True):
        assert frame.shape[:2] == size
        if size != (2, 2):  # one pixel is filled up to the two by two that H.264 needs
            assert abs(frame.astype(float) - one.pixels).mean() < 6


@pytest.mark.kafka
def test_a_topic_too_small_for_our_records_is_found_refused_and_mended(
    shell: Shell, tmp_path: Path, kafka_broker: Broker
) -> None:
    place = kafka_place(tmp_path, kafka_broker.servers, "topics.partitions=1")
    settings = [setting for setting in place.overrides if setting.startswith(("topics.", "broker.bootstrap"))]
    assert shell("topics", "check", *settings) == Said(0, "topics are fine\n", "")
    topic = place.to.rpartition("/")[2]
    alter = ("--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "max.message.bytes=100000")
    kafka_broker.tool("kafka-configs.sh", "--bootstrap-server", kafka_broker.servers, *alter)

    found = shell("topics", "check", *settings)
    assert (found.code, found.err) == (1, "")
    (problem,) = found.out.splitlines()
    assert problem.startswith(f"topic {topic!r}: max.message.bytes is 100000")
    assert "raise it to 10485760" in problem

    send = ("publish", str(BOTTLES), "--feed", "belt", "--to", place.to, "--fast")
    refused = shell(*send)
    assert (refused.code, refused.out) == (2, "")
    (only,) = refused.err.splitlines()
    assert only.startswith(f"error: topic {topic!r}: Kafka refuses a record of ")
    assert "`standwatch topics create` raises it" in only

    assert shell("topics", "create", *settings).code == 0
    assert shell(*send).code == 0
