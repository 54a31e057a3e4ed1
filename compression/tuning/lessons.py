"""Decides how an example becomes a sample to learn from: which of its questions, in which words (spec §5, §11).

The words are those that questions are read with later, to the last token, so that what is learnt is what is used; the
published tuning also learns line ends and chat markers everywhere (`labels.labelled`), which serves nobody here.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from standwatch.compression.labels import IGNORED, Look, Sample, Words
from standwatch.compression.prompt import Prompt, build_prompt
from standwatch.compression.qcomp import QueryRows
from standwatch.compression.tokenizer import TextTokenizer
from standwatch.compression.tuning.examples import Example
from standwatch.compression.tuning.quiz import Asked


def lesson(tokenizer: TextTokenizer, example: Example, video: Tensor, asked: Sequence[Asked]) -> Sample:
    """Some questions about one video [F, n, D] as a sample: its frames run once for all of them.

    Raises ValueError if there is no question, or one cannot be asked.
    """
    prompts = [build_prompt(tokenizer, one.question, example.duration_s, len(example.window_ms)) for one in asked]
    texts: list[Words] = []
    looks: list[Look] = []
    for prompt, one in zip(prompts, asked, strict=True):
        answer = [*tokenizer.encode(one.answer), tokenizer.im_end_id]
        for rows, frames in _looks(prompt, one):
            looks.append(Look(len(texts), rows.start, rows.stop, frames))
        texts.append(Words((*prompt.text_ids, *answer), (*(IGNORED,) * len(prompt.text_ids), *answer)))
    if not prompts:
        raise ValueError("asked: there is none; leave the example out")
    before = prompts[0].prefix_ids
    return Sample(Words(before, (IGNORED,) * len(before)), video, tuple(texts), example.context, tuple(looks))


def _looks(prompt: Prompt, asked: Asked) -> Iterator[tuple[QueryRows, tuple[int, ...]]]:
    """Rows of a question, and the frames that these are to look at: which was first is found where each is found."""
    for words, frames in asked.clauses:
        if frames:  # else no frame shows it clearly, though those around do
            yield prompt.rows_of(words), frames
    if asked.evidence and not asked.clauses:
        yield prompt.rows, asked.evidence
