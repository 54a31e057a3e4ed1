"""Decides how records that cannot be used are laid aside: safe before anyone goes on behind them."""

from collections.abc import Sequence

from standwatch.pipeline.codec import dead_letter
from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.ports import Sink
from standwatch.pipeline.types import DeadLetter


def bury(letters: Sequence[DeadLetter], topic: str, sink: Sink) -> None:
    """Send dead letters and wait until they are safe. Raises `Unavailable`; sending them again is harmless."""
    for letter in letters:
        try:
            sink.send(dead_letter(letter, topic))
        except BadInput:  # too large for the topic, with all that was added to it
            sink.send(dead_letter(letter, topic, whole=False))
    if letters:
        sink.flush()
