"""A real Kafka broker for tests: formatted, started, stopped, killed and started again on its own ports and folder."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

READY = b"Kafka Server started"
START_S = 60.0

_SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.retention.check.interval.ms=1000
"""


class Broker:
    """One broker. Its ports and data stay the same over `stop`, `kill` and `start`."""

    def __init__(self, home: Path, folder: Path, settings: str = "") -> None:
        self.home = home
        self.folder = folder
        self.port, controller = _free_ports(2)
        self.servers = f"127.0.0.1:{self.port}"
        self._properties = folder / "server.properties"
        self._output = folder / "server.out"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        text = _SETTINGS.format(port=self.port, controller=controller, folder=folder)
        self._properties.write_text(text + settings, encoding="utf-8")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "A")
        self.tool("kafka-storage.sh", "format", "-t", cluster, "-c", str(self._properties))

    def tool(self, script: str, *arguments: str) -> str:
        """Output of one of Kafka's own scripts. Raises `CalledProcessError` when it fails."""
        command = [str(self.home / "bin" / script), *arguments]
        done = subprocess.run(command, env=self._environment(), check=True, capture_output=True, timeout=60)
        return done.stdout.decode()

    def start(self) -> None:
        """Return when the broker says that it has started."""
        assert self._process is None, "started already"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [str(self.home / "bin" / "kafka-server-start.sh"), str(self._properties)],
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the script, and java below it, go together
            )
        deadline = time.monotonic() + START_S
        while READY not in (said := self._output.read_bytes()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the broker did not start:\n{said[-4000:].decode(errors='replace')}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut down in order, as on a planned restart."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash: no goodbye to clients, nothing flushed. Harmless when it is not running."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for attempt in (number, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, attempt)
            try:
                process.wait(30)
                return
            except subprocess.TimeoutExpired:
                continue

    def _environment(self) -> dict[str, str]:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        return os.environ | {"LOG_DIR": str(logs), "KAFKA_HEAP_OPTS": "-Xms96m -Xmx320m"}


@contextmanager
def running_broker(folder: Path, settings: str = "") -> Iterator[Broker]:
    """A started broker with its files in `folder`; dead for sure afterwards. Skips the test where there is no Kafka."""
    home = os.environ.get("KAFKA_HOME")
    if not home:
        pytest.skip("KAFKA_HOME is not set: no Kafka to test against")
    if not (Path(home) / "bin" / "kafka-server-start.sh").exists():
        pytest.skip(f"KAFKA_HOME={home} holds no bin/kafka-server-start.sh")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("there is no java, which Kafka needs")
    broker = Broker(Path(home), folder, settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """One broker for all tests of the session; its folder is short-lived and not among pytest's kept ones."""
    with tempfile.TemporaryDirectory(prefix="standwatch-kafka-") as folder, running_broker(Path(folder)) as broker:
        yield broker


def _free_ports(count: int) -> list[int]:
    """Ports free at the moment; held together so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
