"""Decides how we reach a Kafka broker, and which of its errors means what; the only place that builds its clients."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.errors import (  # type: ignore[import-untyped]
    AuthorizationError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    RetriableError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)
from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]

from standwatch.configs.schema import BrokerConfig
from standwatch.pipeline.errors import BadInput, Unavailable

_REFUSED = (AuthorizationError, SaslAuthenticationFailedError, IncompatibleBrokerVersion, UnsupportedVersionError)
_AWAY = (RetriableError, KafkaConnectionError, OSError)
_PROBE_S = 3.0

log = logging.getLogger(__name__)


@contextmanager
def kafka_errors(config: BrokerConfig, doing: str) -> Iterator[None]:
    """Kafka's errors as ours: away is `Unavailable`, refused for good is `BadInput`; what is neither stays as it is."""
    try:
        yield
    except (BadInput, Unavailable):
        raise
    except _REFUSED as error:
        raise BadInput(f"broker.bootstrap_servers: {config.bootstrap_servers} refused {doing}: {error}") from error
    except _AWAY as error:
        raise _unavailable(config, f"{doing}: {error}") from error


def probe(config: BrokerConfig) -> None:
    """Return when one of the servers takes a connection. Raises `Unavailable` at once when none does."""
    problems: list[str] = []
    for host, port in servers(config):
        try:
            socket.create_connection((host, port), min(_PROBE_S, config.request_timeout_ms / 1000)).close()
            return
        except OSError as error:
            problems.append(f"{host}:{port} {error.strerror or error}")
    raise _unavailable(config, "; ".join(problems))


def servers(config: BrokerConfig) -> list[tuple[str, int]]:
    """Host and port of each server. Raises `BadInput` for what is neither."""
    found: list[tuple[str, int]] = []
    for part in config.bootstrap_servers.split(","):
        host, _, port = part.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise BadInput(f"broker.bootstrap_servers: {part.strip()!r} is not HOST:PORT")
        found.append((host.strip("[]"), int(port)))
    return found


def connect_consumer(config: BrokerConfig, **options: Any) -> Any:
    """A `KafkaConsumer` that has met its broker. Raises `Unavailable`, `BadInput`."""
    return _connect(config, KafkaConsumer, enable_auto_commit=False, allow_auto_create_topics=False, **options)


def connect_producer(config: BrokerConfig, **options: Any) -> Any:
    """A `KafkaProducer` that has met its broker. Raises `Unavailable`, `BadInput`."""
    return _connect(config, KafkaProducer, allow_auto_create_topics=False, **options)


@contextmanager
def admin_client(config: BrokerConfig) -> Iterator[Any]:
    """A `KafkaAdminClient` for the block. Raises `Unavailable`, `BadInput`."""
    client = _connect(config, KafkaAdminClient)
    try:
        with kafka_errors(config, "an administrative request"):
            yield client
    finally:
        client.close()


def _connect(config: BrokerConfig, kind: Callable[..., Any], **options: Any) -> Any:
    """The client; where its constructor fails, the network thread that it has started by then is stopped again."""
    probe(config)
    library = logging.getLogger("kafka")
    if library.level == logging.NOTSET:  # it logs each attempt as an error; what matters comes out of here as ours
        library.setLevel(logging.CRITICAL)
    started: list[Any] = []

    def network(**configs: Any) -> Any:
        started.append(KafkaNetClient(**configs))
        return started[-1]

    with kafka_errors(config, "the connection"):
        try:
            return kind(
                bootstrap_servers=[f"{host}:{port}" for host, port in servers(config)],
                client_id="standwatch",
                request_timeout_ms=config.request_timeout_ms,
                bootstrap_timeout_ms=config.request_timeout_ms,
                reconnect_backoff_max_ms=1000,
                kafka_client=network,
                **options,
            )
        except BaseException:
            for client in started:
                client.close()
            raise


def _unavailable(config: BrokerConfig, reason: str) -> Unavailable:
    return Unavailable(
        f"broker.bootstrap_servers: no answer from Kafka at {config.bootstrap_servers} ({reason}); "
        "is it running and reachable from here?"
    )


def failure_of(error: BaseException) -> str:
    """A Kafka error in words: its text, or the name of its kind where it has none."""
    return str(error) if isinstance(error, KafkaError) else repr(error)
