"""Decides how one template says many things: the choices within it, and the words around a claim or a thing asked for.

`[see|spot]` in a template is one of these words, which may be none. Whoever learns from few forms of words learns the
forms: what is asked in others is then answered worse than before.
"""

import random
import re

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_TELL = "Tell me|Let me know|Please tell me|Find out|Report|I want to know|I need to know|I would like to know"
_KNOW = "Could you tell me|Can you tell|Do you know|Any idea|Are you able to tell"
_CLAIMED = (
    f"[{_TELL}|I wonder|Determine] [if|whether] <>.",
    f"[{_KNOW}] [if|whether] <>?",
    "[Is it true|Is it right|Is it correct|Is it the case|Is it so|Could it be|Can you confirm] that <>?",
    "[Please confirm|Confirm|Verify|Make sure|Please verify] that <>.",
    "<>[, right|, correct|, is that so|, is that right|: is that true|. Yes or no|. True or false]?",
    "I [think|believe|suppose|guess] [|that ]<>. [Is that right|Am I right|Is it so|Correct|Is that true]?",
)
_CLAUSE = (f"[{_TELL}|State|Explain|Please work out|Write down] <>.", f"[{_KNOW}] <>?")
_THING = (
    "[Give me|Name|I need|Describe|State|Report|Tell me|Let me know|Write down|Note|Please name|I want] <>.",
    "[Can|Could] you [give me|tell me|name|describe] <>?",
    "<>[, please.|?]",
)


def claimed(*statements: str) -> tuple[str, ...]:
    """Templates that ask whether a statement holds, '{it.a} is in view'."""
    return _around(_CLAIMED, statements)


def told(*clauses: str) -> tuple[str, ...]:
    """Templates that ask for what a clause says, 'how many {it.many} there are'."""
    return _around(_CLAUSE, clauses)


def named(*things: str) -> tuple[str, ...]:
    """Templates that ask for a thing, 'the colour of {it.the}'."""
    return _around(_THING, things)


def chosen(template: str, chance: random.Random) -> str:
    """A template without choices: one of each."""
    return _CHOICE.sub(lambda choice: chance.choice(choice[1].split("|")), template)


def _around(frames: tuple[str, ...], words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(frame.replace("<>", one) for frame in frames for one in words)
