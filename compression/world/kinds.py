"""Decides what can be seen in a rendered world: every kind of object, its name, size, ways of moving and drawings.

Sizes are chosen for a picture of 224 pixels and not from life: a bottle is drawn nearly as high as a dog, so that it
can be recognised at all. Every drawing here is in every set of drawings under the same name.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from standwatch.compression.world.palette import COLOURS


class Role(str, Enum):
    """How a kind takes part in what happens."""

    PERSON = "person"  # walks, runs, stops, kneels, falls, carries things
    RIDER = "rider"  # a person on wheels or with a cane: moves and stops
    ANIMAL = "animal"  # wanders
    VEHICLE = "vehicle"  # drives along lanes, stops, can catch fire
    THING = "thing"  # stands, is carried, is left behind
    FIRE = "fire"


class Pose(str, Enum):
    """Which drawing of a look is shown."""

    STANDING = "standing"
    WALKING = "walking"
    RUNNING = "running"
    KNEELING = "kneeling"


@dataclass(frozen=True)
class Kind:
    """One kind of object. `looks` are alternatives; each names a drawing for each pose it has, the standing one first.

    `also` are names that are true of it too, so that nobody asks for them as absent. `colours` is empty where the
    colour is not part of the truth; otherwise the object is painted in one of them, people their clothes.
    """

    name: str
    role: Role
    height_m: float
    looks: tuple[tuple[str, ...], ...]
    colours: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    carried: bool = False  # by a person, in the hand
    burns: bool = False

    @cached_property
    def plural(self) -> str:
        head, *rest = self.name.split(" ")
        if rest and rest[0] in ("with", "in"):
            return " ".join((_plural(head), *rest))
        return " ".join((*self.name.split(" ")[:-1], _plural(self.name.split(" ")[-1])))


def _plural(noun: str) -> str:
    irregular = {"person": "people", "sheep": "sheep"}
    return irregular.get(noun, noun + ("es" if noun.endswith(("x", "s")) else "s"))


def _person(kind: str) -> tuple[str, ...]:
    return (f"{kind}-standing", f"{kind}-walking", f"{kind}-running", f"{kind}-kneeling")


def _riding(what: str) -> tuple[tuple[str, ...], ...]:
    return ((f"man-{what}",), (f"woman-{what}",))


def _animal(name: str, height_m: float, *drawings: str) -> Kind:
    return Kind(name, Role.ANIMAL, height_m, tuple((drawing,) for drawing in drawings or (name,)))


def _vehicle(
    name: str, height_m: float, *drawings: str, colours: tuple[str, ...] = (), also: tuple[str, ...] = ()
) -> Kind:
    looks = tuple((drawing,) for drawing in drawings or (name.replace(" ", "-"),))
    return Kind(name, Role.VEHICLE, height_m, looks, colours, also, burns=True)


def _thing(
    name: str,
    height_m: float,
    drawing: str = "",
    *,
    colours: tuple[str, ...] = (),
    carried: bool = False,
    burns: bool = False,
) -> Kind:
    looks = ((drawing or name.replace(" ", "-"),),)
    return Kind(name, Role.THING, height_m, looks, colours, carried=carried, burns=burns)


_ALL = (
    Kind("person", Role.PERSON, 1.75, (_person("man"), _person("woman")), COLOURS),
    Kind("person with a cane", Role.RIDER, 1.75, _riding("with-white-cane"), also=("person",)),
    Kind("person in a wheelchair", Role.RIDER, 1.5, _riding("in-manual-wheelchair"), also=("person", "wheelchair")),
    Kind("cyclist", Role.RIDER, 1.7, _riding("biking"), also=("person", "bicycle")),
    _animal("dog", 0.9, "dog", "guide-dog", "poodle"),
    _animal("cat", 0.8, "cat", "black-cat"),
    _animal("bird", 0.7, "bird", "dove"),
    _animal("duck", 0.75),
    _animal("rabbit", 0.75),
    _animal("horse", 1.6),
    _animal("cow", 1.4),
    _animal("sheep", 1.1, "ewe"),
    _animal("pig", 0.95),
    _vehicle("car", 1.5, "automobile", "sport-utility-vehicle", colours=COLOURS),
    _vehicle("taxi", 1.55, also=("car",)),
    _vehicle("police car", 1.55, also=("car",)),
    _vehicle("pickup truck", 1.55, colours=COLOURS, also=("truck",)),
    _vehicle("truck", 2.0, "delivery-truck", "articulated-lorry"),
    _vehicle("bus", 2.1),
    _vehicle("van", 1.75, "minibus"),
    _vehicle("ambulance", 1.85, also=("van",)),
    _vehicle("fire engine", 2.0, also=("truck",)),
    _vehicle("tractor", 1.9),
    _vehicle("motorcycle", 1.2),
    _vehicle("motor scooter", 1.25, colours=COLOURS),
    _thing("bicycle", 1.15),
    _thing("kick scooter", 1.1, colours=COLOURS, carried=True),
    _thing("wheelchair", 1.2, "manual-wheelchair"),
    _thing("shopping cart", 1.2),
    _thing("box", 0.95, "package", colours=COLOURS, carried=True, burns=True),
    _thing("backpack", 0.9, colours=COLOURS, carried=True),
    _thing("suitcase", 1.05, "luggage", colours=COLOURS, carried=True),
    _thing("briefcase", 0.8, carried=True),
    _thing("handbag", 0.8, colours=COLOURS, carried=True),
    _thing("toolbox", 0.75, colours=COLOURS, carried=True),
    _thing("bucket", 0.8, colours=COLOURS, carried=True),
    _thing("basket", 0.8, carried=True),
    _thing("bottle", 0.95, "bottle-with-popping-cork", carried=True),
    _thing("present", 0.85, "wrapped-gift", carried=True),
    _thing("umbrella", 1.0, colours=COLOURS, carried=True),
    _thing("balloon", 1.1, colours=COLOURS, carried=True),
    _thing("broom", 1.3, carried=True),
    _thing("ladder", 1.7, carried=True),
    _thing("fire extinguisher", 1.05, carried=True),
    _thing("ball", 0.7, "soccer-ball", carried=True),
    _thing("guitar", 1.15, carried=True),
    _thing("teddy bear", 0.9, carried=True),
    _thing("drum", 0.85, carried=True),
    _thing("laptop", 0.75, carried=True),
    _thing("chair", 1.1, colours=COLOURS, carried=True),
    _thing("television", 0.95, carried=True),
    _thing("plant", 1.15, "potted-plant", carried=True),
    _thing("barrel", 1.1, "oil-drum", colours=COLOURS, burns=True),
    _thing("trash bin", 1.0, "wastebasket", burns=True),
    _thing("barrier", 1.1, "construction"),
    _thing("mailbox", 1.2, "closed-mailbox-with-raised-flag"),
    Kind("fire", Role.FIRE, 1.1, (("fire",),)),
)

KINDS = {kind.name: kind for kind in _ALL}
DRAWINGS = tuple(sorted({drawing for kind in _ALL for look in kind.looks for drawing in look}))


def of_role(*roles: Role) -> tuple[Kind, ...]:
    """All kinds of these roles, in the order of the table."""
    return tuple(kind for kind in _ALL if kind.role in roles)
