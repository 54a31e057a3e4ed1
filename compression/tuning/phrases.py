"""Decides how users of cameras ask: the templates of each form, those of training and those kept for the test.

`{it.any}` is 'a dog' or 'anyone' in a question, `{it.a}` 'a dog' or 'someone' in a statement, `{it.the}` 'the dog',
`{it.many}` 'dogs' or 'people'. The first letter is made a capital.
"""

from standwatch.compression.tuning.phrases_events import HAPPENING, HAPPENING_HELD_OUT, OWN
from standwatch.compression.tuning.phrases_telling import TELLING, TELLING_HELD_OUT
from standwatch.compression.tuning.quiz_claims import Phrasing
from standwatch.compression.world.script import What

_TRAINING = {
    "presence": (
        "Is there {it.any}?",
        "Is there {it.any} in the picture?",
        "Can you see {it.any}?",
        "Do you see {it.any} anywhere?",
        "Tell me if {it.a} is in view.",
        "{it.a} is in the picture, right?",
        "Is {it.any} in view?",
        "Does the camera show {it.any} now?",
        "Are there any {it.many}?",
        "Can you see any {it.many}?",
        "Let me know whether there is {it.any}.",
    ),
    "past presence": (
        "Was there {it.any}?",
        "Was there {it.any} in the picture?",
        "Did you see {it.any}?",
        "Have you seen {it.any}?",
        "Tell me if {it.a} was in view.",
        "{it.a} was in the picture, right?",
        "Was {it.any} in view at any time?",
        "Did the camera show {it.any}?",
        "Were there any {it.many}?",
        "Have you seen any {it.many}?",
    ),
    "colour": (
        "What colour is {it.the}?",
        "Which colour is {it.the}?",
        "What color is {it.the}?",
        "What is the colour of {it.the}?",
        "Tell me the colour of {it.the}.",
        "Which colour does {it.the} have?",
        "{it.the}: what colour is it?",
        "Can you tell what colour {it.the} is?",
    ),
    "clothes": (
        "What colour is {it.the} wearing?",
        "Which colour is {it.the} dressed in?",
        "What color are the clothes of {it.the}?",
        "What is the colour of the clothes of {it.the}?",
        "Tell me the colour that {it.the} is wearing.",
        "Which colour does {it.the} wear?",
        "What colour are the person's clothes?",
        "Can you tell what colour {it.the} wears?",
    ),
    "has colour": (
        "Is {it.the} {colour}?",
        "Is the colour of {it.the} {colour}?",
        "{it.the} is {colour}, right?",
        "Tell me if {it.the} is {colour}.",
        "Would {colour} be the colour of {it.the}?",
        "Is it true that {it.the} is {colour}?",
        "Does {it.the} look {colour}?",
        "Is {colour} the colour of {it.the}?",
    ),
    "side": (
        "Where is {it.the}, left or right?",
        "Is {it.the} on the left or on the right?",
        "On which side is {it.the}?",
        "Which side of the picture is {it.the} on?",
        "Tell me which side {it.the} is on.",
        "Where is {it.the}?",
        "Where do you see {it.the}, left or right?",
        "In which half of the picture is {it.the}?",
    ),
    "is on side": (
        "Is {it.the} on the {side}?",
        "Is {it.the} in the {side} half?",
        "{it.the} is on the {side}, correct?",
        "Tell me if {it.the} is on the {side}.",
        "Do you see {it.the} on the {side}?",
        "Is it true that {it.the} is on the {side}?",
        "Is {it.the} on the {side} side of the picture?",
        "Can {it.the} be seen on the {side}?",
    ),
    "any on side": (
        "Is there {it.any} on the {side}?",
        "Do you see {it.any} on the {side}?",
        "Is {it.any} in the {side} half of the picture?",
        "Tell me if {it.a} is on the {side}.",
        "Are there any {it.many} on the {side}?",
        "Can you see {it.any} on the {side} side?",
        "{it.a} is on the {side}, is that so?",
        "Let me know whether {it.a} is on the {side}.",
    ),
    "is in zone": (
        "Is {it.any} in {zone}?",
        "Is there {it.any} in {zone}?",
        "Do you see {it.any} in {zone}?",
        "Tell me if {it.a} is in {zone}.",
        "Are there any {it.many} in {zone}?",
        "{it.a} is in {zone}, right?",
        "Is {it.any} standing inside {zone}?",
        "Let me know whether {it.a} is inside {zone}.",
    ),
    "which zone": (
        "Which zone is {it.the} in?",
        "In which zone is {it.the}?",
        "In which zone do you see {it.the}?",
        "Tell me which zone {it.the} is in.",
        "What zone is {it.the} in, if any?",
        "Which of the marked zones is {it.the} in?",
        "{it.the} is in which zone?",
        "Inside which zone is {it.the}?",
    ),
    "in the zone": (
        "What is in {zone}?",
        "What do you see in {zone}?",
        "Tell me what is in {zone}.",
        "What is inside {zone} now?",
        "List what is in {zone}.",
        "Who or what is in {zone}?",
        "Which things are in {zone}?",
        "Name everything in {zone}.",
    ),
    "count": (
        "How many {it.many} are there?",
        "How many {it.many} do you see?",
        "Count the {it.many}.",
        "Tell me how many {it.many} there are.",
        "How many {it.many} are in the picture?",
        "What is the number of {it.many}?",
        "How many {it.many} can you see now?",
        "How many {it.many} are in view?",
    ),
    "has count": (
        "{are} there {quantity}?",
        "{are} there {quantity} in the picture?",
        "Do you see {quantity}?",
        "Can you see {quantity}?",
        "Tell me if there {are} {quantity}.",
        "There {are} {quantity}, right?",
        "{are} {quantity} in view?",
        "Is it true that there {are} {quantity}?",
    ),
}

_HELD_OUT = {
    "presence": (
        "Do any {it.many} show up right now?",
        "Could you check for {it.any}?",
        "Would you say there is {it.any}?",
    ),
    "past presence": ("Did any {it.many} show up?", "Could you check whether there was {it.any}?"),
    "colour": ("How would you name the colour of {it.the}?", "In what colour is {it.the} painted?"),
    "clothes": ("How would you name the colour of the clothes of {it.the}?", "In what colour is {it.the} dressed?"),
    "has colour": ("Would you call {it.the} {colour}?", "Check whether {it.the} is {colour}."),
    "side": ("Should I look left or right for {it.the}?", "{it.the} stands on which side?"),
    "is on side": ("Would you find {it.the} on the {side}?", "Check whether {it.the} is on the {side}."),
    "any on side": ("Would you find {it.any} on the {side}?", "Check whether {it.a} is on the {side}."),
    "is in zone": ("Has {zone} got {it.any} in it?", "Check whether {it.a} is in {zone}."),
    "which zone": ("Say which zone holds {it.the}.", "{it.the} can be found in which zone?"),
    "in the zone": ("What does {zone} hold?", "Say what is to be found in {zone}."),
    "count": ("Give me the number of {it.many}.", "Say how many {it.many} the camera shows."),
    "has count": ("Would you say there {are} {quantity}?", "Check whether there {are} {quantity}."),
}


def templates(form: str, phrasing: Phrasing) -> tuple[str, ...]:
    """Of a form; those of an event are 'event' and its name."""
    return _BOOK[phrasing][form]


_BOOK = {
    Phrasing.TRAINING: {
        **_TRAINING,
        **TELLING,
        **{f"event {what.name}": (*HAPPENING, *OWN.get(what, ())) for what in What},
    },
    Phrasing.HELD_OUT: {
        **_HELD_OUT,
        **TELLING_HELD_OUT,
        **{f"event {what.name}": HAPPENING_HELD_OUT for what in What},
    },
}
