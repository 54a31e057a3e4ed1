"""Decides the words around a video: the chat prompt, and where in it the question stands (spec §5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from standwatch.compression.frame_sampling import time_message
from standwatch.compression.qcomp import QueryRows
from standwatch.compression.tokenizer import IM_END, IM_START, TextTokenizer

IMAGE = "<image>"
ASSISTANT = "assistant"
_BEFORE = f"{IM_START}system\nYou are a helpful assistant.{IM_END}\n{IM_START}user\n"


@dataclass(frozen=True)
class Prompt:
    """Token ids before the video and after it; `rows` of the text ask (spec §8: the question to its turn's end).

    `text` are the words after the video, and `ends` the index behind the last character of each of its tokens.
    """

    prefix_ids: tuple[int, ...]
    text_ids: tuple[int, ...]
    rows: QueryRows
    text: str
    ends: tuple[int, ...]

    def rows_of(self, words: str) -> QueryRows:
        """The rows that some words of the text fill, in capitals or not. Raises ValueError if they are not there."""
        start = self.text.lower().index(words.lower())
        rows = [
            row
            for row, (begin, end) in enumerate(pairwise((0, *self.ends)))
            if begin < start + len(words) and end > start
        ]
        return QueryRows(rows[0], rows[-1] + 1)


def prompt_text(question: str, duration_s: float, frames: int) -> str:
    """The whole prompt with `<image>` where the video goes."""
    return f"{_BEFORE}{IMAGE}{_message_line(duration_s, frames)}{question}{IM_END}\n{IM_START}{ASSISTANT}\n"


def prefix_ids(tokenizer: TextTokenizer) -> list[int]:
    """Token ids of every prompt before the video: they depend on no question."""
    return tokenizer.encode(_BEFORE)


def build_prompt(tokenizer: TextTokenizer, question: str, duration_s: float, frames: int) -> Prompt:
    """Tokenise both pieces, before and after the video, separately.

    Raises ValueError for an empty question, or one that contains a marker of the chat format.
    """
    _check_question(question)
    _, after = prompt_text(question, duration_s, frames).split(IMAGE)
    text = tokenizer.tokenize(after)
    question_at = len(_message_line(duration_s, frames))
    # A token may hold the end of the message and the question's first letter: it belongs to the question.
    start = next(row for row, end in enumerate(text.ends) if end > question_at)
    stop = assistant_start(text.ids, tokenizer.im_start_id, tokenizer.encode(ASSISTANT))
    return Prompt(tuple(prefix_ids(tokenizer)), text.ids, QueryRows(start, stop), after, text.ends)


def assistant_start(ids: Sequence[int], im_start_id: int, assistant_ids: Sequence[int]) -> int:
    """Index of the first chat marker that is followed by "assistant"; ValueError if there is none.

    In the id list of a whole prompt, with one placeholder for the video, this is the spec's `first_conv_length`.
    """
    wanted = [im_start_id, *assistant_ids]
    for index in range(len(ids) - len(wanted) + 1):
        if list(ids[index : index + len(wanted)]) == wanted:
            return index
    raise ValueError("the prompt has no assistant header")


def _message_line(duration_s: float, frames: int) -> str:
    return f"\n{time_message(duration_s, frames).strip()} "


def _check_question(question: str) -> None:
    if not question.strip():
        raise ValueError("question: it is empty; write what should be looked for")
    for marker in (IM_START, IM_END, IMAGE):
        if marker in question:
            raise ValueError(f"question: it contains {marker!r}, which would end the question's turn; remove it")
