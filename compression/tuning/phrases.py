"""Decides how users of cameras ask: the templates of each form, those of training and those kept for the test.

`{it.any}` is 'a dog' or 'anyone' in a question, `{it.a}` 'a dog' or 'someone' in a statement, `{it.the}` 'the dog',
`{it.many}` 'dogs' or 'people'. The first letter is made a capital. Those of training offer choices (`wording`). Words
of those kept for the test are in none of training: nobody is asked to check or say something there, nothing shows up.
"""

from standwatch.compression.tuning.phrases_events import HAPPENING, HAPPENING_HELD_OUT, OWN
from standwatch.compression.tuning.phrases_telling import TELLING, TELLING_HELD_OUT
from standwatch.compression.tuning.quiz_claims import Phrasing
from standwatch.compression.tuning.wording import claimed, named, told
from standwatch.compression.world.script import What

_TRAINING = {
    "presence": (
        "Is there {it.any}[| here| there| in the picture| in view| anywhere| on camera]?",
        "[Can|Could|Do] you [see|spot|make out|find|notice] {it.any}[| anywhere| in the picture| there| now]?",
        "Is {it.any} [in view|in sight|visible|in the picture|to be seen|on camera][| now| at the moment]?",
        "Are there any {it.many}[| in view| in the picture| around| there| to be seen]?",
        "[Can you see|Do you see|Do you notice|Have we got|Do we have] any {it.many}[| there| around| at the moment]?",
        "Does {it.any} appear[| in the picture| on camera| now]?",
        "Does the camera [show|see|catch|film] {it.any}[| now| at the moment]?",
        "[Has the camera got|Have we got|Do we have] {it.any} in [sight|view]?",
        "[Look|Search] for {it.a}: [do you find one|is there one|can you see one]?",
        "I am [looking|searching] for {it.a}. [Is it there|Do you see one|Can you find one|Is there one]?",
        "Any {it.many}[| there| in view| in sight| around| here]?",
        "{it.any} [in view|in sight|there|here|on camera]?",
        *claimed(
            "{it.a} is [in view|in the picture|there|in sight|visible|on camera]",
            "there is {it.a}[| in the picture| in view| there]",
            "you [|can ]see {it.a}",
            "the camera [shows|sees|films] {it.a}",
        ),
    ),
    "past presence": (
        "Was there {it.any}[| here| in the picture| at any time| at some point| in view]?",
        "[Did you|Were you able to] [see|spot|make out|find|notice] {it.any}[| anywhere| in the picture| at any time]?",
        "Have you [seen|spotted|noticed|come across] {it.any}[| anywhere| in the picture| at any time]?",
        "Was {it.any} [in view|in sight|visible|in the picture|on camera][| at any time| at any moment| once]?",
        "Were there any {it.many}[| in view| in the picture| at any time| around]?",
        "[Did you see|Have you seen|Have there been|Did you notice] any {it.many}[| around| at any time| so far]?",
        "Did {it.any} appear[| in the picture| at any time| at some point| on camera]?",
        "Did the camera [show|catch|film] {it.any}[| at any time| at some point]?",
        "Has {it.any} been [in sight|in view|there|visible|on camera]?",
        "Look back: [was {it.any} there|did you see {it.any}|was there {it.any}]?",
        "Any {it.many} [so far|earlier|in this time]?",
        *claimed(
            "{it.a} was [in view|in the picture|there|in sight|visible|on camera]",
            "there was {it.a}[| in the picture| in view| at some point]",
            "you [saw|have seen|noticed] {it.a}",
            "{it.a} has been [there|in view|in sight|on camera]",
        ),
    ),
    "colour": (
        "[What|Which] [colour|color] is {it.the}?",
        "[What|Which] [colour|color] does {it.the} have?",
        "{it.the}: [what|which] [colour|color][| is it]?",
        "Of [what|which] colour is {it.the}?",
        "What colour [would you give|do you see on|could you give] {it.the}?",
        "Look at {it.the}. [What is its colour|What colour is it|Which colour do you see]?",
        "What is {it.the}: red, blue, or another colour?",
        "In one word: [what|which] colour is {it.the}?",
        "How is {it.the} coloured?",
        "[What is|What's|What would be] the [colour|color] of {it.the}?",
        *told("[what|which] [colour|color] {it.the} [is|has]"),
        *named("the [colour|color] of {it.the}"),
    ),
    "clothes": (
        "[What|Which] [colour|color] [is {it.the} wearing|does {it.the} wear|does {it.the} have on]?",
        "[What|Which] colour do you see {it.the} wear?",
        "[What|Which] [colour|color] are the clothes of {it.the}?",
        "What colour are the person's clothes?",
        "Look at {it.the}. [Which|What] colour are the clothes?",
        "In one word: which colour does {it.the} have on?",
        "[What is|What's] the [colour|color] of [the clothes of {it.the}|what {it.the} wears|what {it.the} has on]?",
        "{it.the}: [what|which] colour are the clothes?",
        *told("[what|which] colour {it.the} [wears|is wearing|has on]"),
        *named("the [colour|color] [of the clothes of {it.the}|that {it.the} wears|of what {it.the} is wearing]"),
    ),
    "has colour": (
        "Is {it.the} {colour}?",
        "Is the [colour|color] of {it.the} {colour}?",
        "[Would|Could] {colour} be the colour of {it.the}?",
        "Does {it.the} look {colour}?",
        "Is {colour} the colour of {it.the}?",
        "Could one describe {it.the} as {colour}?",
        "Is {it.the} [of a {colour} colour|{colour} in colour]?",
        "Do you see that {it.the} is {colour}?",
        "Look at {it.the}: is it {colour}?",
        *claimed("{it.the} is {colour}", "the colour of {it.the} is {colour}"),
    ),
    "side": (
        "Where is {it.the}[|, left or right|: left or right]?",
        "[Is|Do you see|Does one find] {it.the} on the left or on the right?",
        "On [which|what] side [is|do you see|do you find|does one see] {it.the}?",
        "[Which|What] side of the picture is {it.the} on?",
        "Where do you [see|find|spot] {it.the}[|, left or right]?",
        "In which half[| of the picture] [is|do you see] {it.the}?",
        "Left or right: where [is|do you see|does one find] {it.the}?",
        "To which side do I look to find {it.the}?",
        "Does {it.the} stand on the left or on the right?",
        "In one word: on which side is {it.the}?",
        "Is it left or right where {it.the} is?",
        "Which half has {it.the} in it?",
        "{it.the}: [left or right|which side|on the left or on the right]?",
        *told("[which side {it.the} is on|on which side {it.the} is|in which half {it.the} is]"),
        *told("[where {it.the} is, left or right|whether {it.the} is on the left or on the right]"),
        *named("the side [of {it.the}|that {it.the} is on|on which {it.the} is]"),
    ),
    "is on side": (
        "Is {it.the} [on the {side}|in the {side} half|on the {side} side][| of the picture]?",
        "[Do|Can] you [see|find|spot] {it.the} on the {side}?",
        "Can {it.the} be seen on the {side}?",
        "Does {it.the} stand on the {side}?",
        "If I look to the {side}, do I see {it.the}?",
        "Is the {side} the side that {it.the} is on?",
        "Look to the {side}: is that where {it.the} is?",
        *claimed("{it.the} is [on the {side}|in the {side} half|on the {side} side]", "you see {it.the} on the {side}"),
    ),
    "any on side": (
        "Is there {it.any} on the {side}[| side| of the picture]?",
        "[Can|Do] you [see|spot|find|notice] {it.any} on the {side}?",
        "Is {it.any} [in the {side} half|on the {side}|visible on the {side}][| of the picture]?",
        "Are there any {it.many} on the {side}?",
        "Does {it.any} appear on the {side}?",
        "Look to the {side}: [is there {it.any}|do you see {it.any}]?",
        "Any {it.many} on the {side}?",
        "{it.any} on the {side}?",
        *claimed("{it.a} is [on the {side}|in the {side} half]", "there is {it.a} on the {side}"),
    ),
    "is in zone": (
        "Is {it.any} [in|inside|within] {zone}?",
        "Is there {it.any} [in|inside] {zone}?",
        "[Can|Do] you [see|spot|find] {it.any} [in|inside] {zone}?",
        "Are there any {it.many} [in|inside] {zone}?",
        "Is {it.any} standing [in|inside] {zone}?",
        "Does {zone} contain {it.any}?",
        "Look at {zone}: [is there {it.any}|do you see {it.any}]?",
        "Has {it.any} come to be in {zone}?",
        "Any {it.many} in {zone}?",
        "{it.any} in {zone}?",
        *claimed("{it.a} is [in|inside|within] {zone}", "there is {it.a} in {zone}"),
    ),
    "which zone": (
        "[Which|What] zone is {it.the} in[|, if any]?",
        "[In|Inside] which zone [is|do you see|do you find] {it.the}?",
        "Which of the [marked |]zones is {it.the} in?",
        "{it.the} is in which zone?",
        "Where is {it.the}: in which zone?",
        "Look at {it.the}. Which zone is it in?",
        "Which zone has {it.the} inside?",
        "Is {it.the} in a zone, and in which?",
        "What is the zone around {it.the}?",
        "Which zone contains {it.the}?",
        "{it.the} belongs to which of the zones?",
        "{it.the}: [which zone|in which zone]?",
        *told("which zone {it.the} [is|stands] in", "in which zone {it.the} is"),
        *named("the zone [of|around] {it.the}", "the zone that {it.the} is in"),
    ),
    "in the zone": (
        "What [is|stands|can be seen|do you see|do you find|do you make out] [in|inside|within] {zone}[| now]?",
        "Who or what is in {zone}?",
        "[Which|What] [things|objects] are [in|within|inside] {zone}?",
        "Look at {zone}. What is [there|in it]?",
        "{zone}: what is in it?",
        "Is anything in {zone}, and what?",
        "What have we got in {zone}?",
        "Who or what occupies {zone}?",
        "[List|Name] [what is|everything|all that is] in {zone}.",
        "Go through {zone} and list what is there.",
        *told("what is [in|inside|within] {zone}", "who or what is in {zone}"),
        *named("the contents of {zone}", "a list of what is in {zone}"),
    ),
    "count": (
        "How many {it.many} [are there|do you see|can you see|are in view|are visible|are in the picture][| now]?",
        "Count the {it.many}[| in view| in the picture].",
        "What is the [number|count] of {it.many}?",
        "In one word: how many {it.many} are there?",
        "Look closely: how many {it.many} are visible?",
        "How many {it.many}?",
        "Do you see any {it.many}, and how many?",
        *told("how many {it.many} [there are|you see|are in view|are visible|are there]"),
        "[I need|Tell me|Let me know] the number of {it.many}[| in view| in the picture].",
        "The number of {it.many}, please.",
        *named("[a|the] count of [|the |all ]{it.many}"),
    ),
    "has count": (
        "{are} there {quantity}[| in the picture| in view]?",
        "[Can|Do] you [see|count|find] {quantity}?",
        "{are} {quantity} [in view|visible|in the picture]?",
        "Does the camera [show|see] {quantity}?",
        "I count {quantity}. [Is that right|Do you agree|Correct]?",
        "Count them: {are} there {quantity}?",
        *claimed("there {are} {quantity}[| in view| in the picture]", "you see {quantity}"),
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


# Around a whole question, whatever it asks.
AROUND = (
    "Look at the picture. {}",
    "I want to know: {}",
    "Quick question: {}",
    "Answer this: {}",
    "{} Answer briefly.",
    "{} Please look closely.",
    "For my report: {}",
    "Hello. {}",
)


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
