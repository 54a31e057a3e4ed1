"""Decides how events are asked about: verbs for each, and the templates around them."""

from standwatch.compression.tuning.quiz_claims import Verb
from standwatch.compression.tuning.quiz_frames import zone_words
from standwatch.compression.tuning.wording import claimed
from standwatch.compression.world.script import What


def verbs(what: What, zone: str = "") -> tuple[Verb, ...]:
    """The verbs for this, the plainest first."""
    if what is What.ENTERS_ZONE:
        return tuple(Verb(f"enter {it}", f"entered {it}", f"entered {it}", f"entering {it}") for it in zone_words(zone))
    if what is What.LEAVES_ZONE:
        return tuple(Verb(f"leave {it}", f"left {it}", f"left {it}", f"leaving {it}") for it in zone_words(zone))
    return _VERBS[what]


_VERBS = {
    What.ENTERS: (
        Verb("come into view", "came into view", "come into view", "coming into view"),
        Verb("enter", "entered", "entered", "entering"),
        Verb("enter the picture", "entered the picture", "entered the picture", "entering the picture"),
        Verb("arrive", "arrived", "arrived", "arriving"),
    ),
    What.LEAVES: (
        Verb("go out of view", "went out of view", "gone out of view", "going out of view"),
        Verb("leave", "left", "left", "leaving"),
        Verb("leave the picture", "left the picture", "left the picture", "leaving the picture"),
        Verb("go away", "went away", "gone away", "going away"),
    ),
    What.STOPS: (
        Verb("stop", "stopped", "stopped", "stopping"),
        Verb("come to a stop", "came to a stop", "come to a stop", "coming to a stop"),
    ),
    What.IS_TAKEN: (
        Verb("get taken away", "was taken away", "been taken away", "being taken away"),
        Verb("get picked up", "was picked up", "been picked up", "being picked up"),
    ),
    What.CROSSES: (
        Verb("cross", "crossed", "crossed", "crossing"),
        Verb("cross the picture", "crossed the picture", "crossed the picture", "crossing the picture"),
        Verb(
            "go from one side to the other",
            "went from one side to the other",
            "gone from one side to the other",
            "going from one side to the other",
        ),
    ),
    What.WAITS: (
        Verb("wait", "waited", "waited", "waiting"),
        Verb("stand there waiting", "stood there waiting", "stood there waiting", "standing there waiting"),
    ),
    What.FALLS: (
        Verb("fall", "fell", "fallen", "falling"),
        Verb("fall over", "fell over", "fallen over", "falling over"),
        Verb("fall to the ground", "fell to the ground", "fallen to the ground", "falling to the ground"),
    ),
    What.IS_LEFT_BEHIND: (
        Verb("get left behind", "was left behind", "been left behind", "being left behind"),
        Verb("get abandoned", "was abandoned", "been abandoned", "being abandoned"),
    ),
    What.BURNS: (Verb("burn", "burned", "burned", "burning"),),
}
# What was going on already when the first frame was taken.
PASSIVE = {What.FALLS: "was lying on the ground", What.BURNS: "was on fire", What.WAITS: "was waiting"}

HAPPENING = (
    "Did {it.any} {verb.base}[| at any time| at some point]?",
    "Has {it.any} {verb.done}[| at any time| so far]?",
    "[Did you see|Have you seen|Did you notice] {it.any} {verb.base}?",
    "Did it happen that {it.a} {verb.past}?",
    "Was there {it.any} that {verb.past}?",
    "Look back: did {it.any} {verb.base}?",
    "Did the camera [show|catch|film] {it.any} {verb.base}?",
    "Was it seen that {it.a} {verb.past}?",
    *claimed("{it.a} {verb.past}[| at some point]", "you saw {it.a} {verb.base}"),
)
HAPPENING_HELD_OUT = (
    "Would you say that {it.a} {verb.past}?",
    "Did the camera see {it.any} {verb.base}?",
    "Check whether {it.a} {verb.past}.",
)
# Beside those for all events.
OWN = {
    What.IS_LEFT_BEHIND: (
        "Did [someone|anyone|anybody] leave {it.any} [behind|unattended|standing there]?",
        "Has anyone left {it.any} behind?",
        "Did anybody put down {it.any} and go away?",
        "Has {it.any} been left unattended?",
        *claimed("[someone|somebody] left {it.a} behind"),
    ),
    What.IS_TAKEN: (
        "Did [someone|anyone] [take {it.any} away|pick up {it.any}]?",
        "Has anyone picked up {it.any}?",
        *claimed("[someone|somebody] [took {it.a} away|picked up {it.a}]"),
    ),
    What.BURNS: (
        "Was {it.any} [on fire|in flames][| at any time]?",
        "Has {it.any} been on fire?",
        "[Did you see|Have you seen] {it.any} [in flames|on fire]?",
        *claimed("{it.a} was [on fire|in flames]"),
    ),
    What.FALLS: (
        "Did {it.any} [have a fall|end up on the ground|go down]?",
        "Has {it.any} had a fall?",
        *claimed("{it.a} [had a fall|ended up on the ground]"),
    ),
    What.WAITS: ("Did {it.any} stand and wait?", "Has {it.any} been waiting?", *claimed("{it.a} has been waiting")),
    What.CROSSES: ("Did {it.any} walk or drive through the picture?",),
}
