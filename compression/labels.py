"""Decides what is learnt from a conversation about a video, and from which row it is predicted (spec §11).

Every token of the assistant's turns is, header and end included; and everywhere, in the turns of system and user too,
the line end and the two chat markers. All other words, and the video, are given and not learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import torch
from torch import Tensor

from standwatch.compression.prompt import ASSISTANT, IMAGE, prefix_ids, prompt_text
from standwatch.compression.tokenizer import IM_END, IM_START, TextTokenizer

IGNORED = -100


@dataclass(frozen=True)
class Words:
    """Token ids, and for each of them the id to be predicted in its place, or IGNORED."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.ids):
            raise ValueError(f"labels: {len(self.labels)} for {len(self.ids)} ids; give each id one, or {IGNORED}")


@dataclass(frozen=True)
class Layout:
    """How one sample's rows follow each other: prefix, frames, words of all its texts, then each text's own words.

    The texts do not see the first `context` frames; what later frames took from them stays in those.
    """

    prefix: int
    frames: int
    shared: int
    own: tuple[int, ...] = ()
    context: int = 0

    def __post_init__(self) -> None:
        if self.context and (self.shared or not 0 < self.context < self.frames):
            raise ValueError(
                f"context: {self.context} of {self.frames} frames, and {self.shared} shared words; leave at least one "
                "frame to see, and behind context give every text all of its words"
            )

    def hidden(self, n: int) -> slice:
        """Rows of the trunk that no text sees."""
        return slice(self.prefix, self.prefix + self.context * n)

    def trunk(self, n: int) -> int:
        """Rows before the texts' own, with n tokens per frame."""
        return self.prefix + self.frames * n + self.shared

    def rows(self, n: int) -> int:
        return self.trunk(n) + sum(self.own)

    def spans(self, n: int) -> list[tuple[int, int]]:
        """Positions as (first, count): every text goes on where the trunk ends."""
        return [(0, self.trunk(n)), *((self.trunk(n), count) for count in self.own)]

    def seen(self, n: int, device: torch.device) -> Tensor:
        """True where a text's own row sees a row: the trunk but for context, and its text up to itself; [own, rows]."""
        text = torch.tensor([number for number, count in enumerate(self.own) for _ in range(count)], device=device)
        among = (text[:, None] == text[None]).tril()
        trunk = among.new_ones(len(among), self.trunk(n))
        trunk[:, self.hidden(n)] = False
        return torch.cat((trunk, among), 1)


@dataclass(frozen=True)
class Look:
    """The words first..stop-1 of a sample's text, and which of the frames that they see they are to look at, from 0."""

    text: int
    first: int
    stop: int
    frames: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """A video [F, n, D] of soft tokens, the words before it, and the texts after it, each of which sees only itself.

    One text is the published case. Texts are about the frames behind the first `context`, and do not see those.
    """

    prefix: Words
    video: Tensor
    texts: tuple[Words, ...]
    context: int = 0
    looks: tuple[Look, ...] = ()

    def __post_init__(self) -> None:
        if not self.texts or not all(text.ids for text in self.texts):
            raise ValueError("texts: at least one is needed, and none may be empty")

    @cached_property
    def layout(self) -> Layout:
        """Words that all texts begin with run once; of a single text, all. Behind context they would see all of it."""
        if self.context:
            own = tuple(len(text.ids) for text in self.texts)
            return Layout(len(self.prefix.ids), len(self.video), 0, own, self.context)
        columns = zip(*(zip(text.ids, text.labels, strict=True) for text in self.texts), strict=False)
        shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        own = tuple(len(text.ids) - shared for text in self.texts) if len(self.texts) > 1 else ()
        return Layout(len(self.prefix.ids), len(self.video), shared, own)

    def looking(self, look: Look, n: int) -> slice:
        """The rows of a look's words, with n tokens per frame: those of its text's own, if some of them are."""
        layout = self.layout
        start = layout.trunk(n) - layout.shared
        if not layout.own or look.stop <= layout.shared:
            return slice(start + look.first, start + look.stop)
        start += layout.shared + sum(layout.own[: look.text])
        return slice(start + max(0, look.first - layout.shared), start + look.stop - layout.shared)

    @property
    def ids(self) -> list[int]:
        """Of all words in the order of their rows, prefix first."""
        shared = self.layout.shared
        own = (token for text in self.texts for token in text.ids[shared:])
        return [*self.prefix.ids, *self.texts[0].ids[:shared], *own]

    def targets(self, n: int) -> list[tuple[int, int, int]]:
        """What is predicted where n tokens per frame are left: (row, label, how many texts that label stands in).

        The first word after the video is predicted from the video's last row; the very first of all from nothing.
        """
        layout = self.layout
        trunk = layout.trunk(n)
        found = [(row, label, 1) for row, label in enumerate(self.prefix.labels[1:])]
        last_of_video = trunk - layout.shared - 1
        shared_labels = self.texts[0].labels[: layout.shared]
        found += [(last_of_video + place, label, len(self.texts)) for place, label in enumerate(shared_labels)]
        start = trunk
        for text, count in zip(self.texts, layout.own, strict=False):
            own = enumerate(text.labels[layout.shared :])
            found += [(start + place - 1 if place else trunk - 1, label, 1) for place, label in own]
            start += count
        return [target for target in found if target[1] != IGNORED]


def prefix_words(tokenizer: TextTokenizer) -> Words:
    """The words before every video."""
    return labelled(tokenizer, prefix_ids(tokenizer))


def conversation_words(
    tokenizer: TextTokenizer, turns: Sequence[tuple[str, str]], duration_s: float, frames: int
) -> Words:
    """The words after a video: turns of (question, answer), the first behind the message about time.

    In training a line end stands before the first question, which no prompt has later (spec §12 row 17). Raises
    ValueError without turns, and for a question or answer that is empty or contains a marker of the chat format.
    """
    if not turns:
        raise ValueError("turns: there is none; give at least one question with its answer")
    for question, answer in turns:
        _check("question", question)
        _check("answer", answer)
    (question, answer), *later = turns
    _, text = prompt_text(f"\n{question}", duration_s, frames).split(IMAGE)
    text += f"{answer}{IM_END}\n"
    for question, answer in later:
        text += f"{IM_START}user\n{question}{IM_END}\n{IM_START}{ASSISTANT}\n{answer}{IM_END}\n"
    return labelled(tokenizer, tokenizer.encode(text))


def labelled(tokenizer: TextTokenizer, ids: Sequence[int]) -> Words:
    """Any ids in the chat format with their labels; a turn goes on to where the next begins."""
    everywhere = {tokenizer.im_start_id, tokenizer.im_end_id, *tokenizer.encode("\n")}
    header = [tokenizer.im_start_id, *tokenizer.encode(ASSISTANT)]
    labels, answering = [], False
    for place, token in enumerate(ids):
        if token == tokenizer.im_start_id:
            answering = list(ids[place : place + len(header)]) == header
        labels.append(token if answering or token in everywhere else IGNORED)
    return Words(tuple(ids), tuple(labels))


def _check(name: str, text: str) -> None:
    if not text.strip():
        raise ValueError(f"{name}: it is empty; there is nothing to learn from it")
    for marker in (IM_START, IM_END, IMAGE):
        if marker in text:
            raise ValueError(f"{name}: it contains {marker!r}, which would end its turn; remove it")
