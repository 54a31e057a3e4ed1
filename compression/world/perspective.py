"""Decides where a point of the floor is in the picture: a fixed camera that looks straight ahead over a flat floor.

Floor coordinates are metres: x to the right of the camera's axis, z away from the camera. A step of one metre at
depth z is `scale(z)` pixels, sideways and upwards alike, so an object's size in the picture follows from where it is.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lens:
    """A camera above the floor. `horizon` and `focal` are in units of the picture's height."""

    width: int  # pixels
    height: int
    horizon: float
    focal: float
    camera_m: float

    @property
    def horizon_row(self) -> float:
        return self.horizon * self.height

    @property
    def near_m(self) -> float:
        """Depth of the nearest floor that is in the picture with a little to spare."""
        return self.camera_m * self.focal / (0.97 - self.horizon)

    def scale(self, z: float) -> float:
        """Pixels per metre at this depth."""
        return self.focal * self.height / z

    def column(self, x: float, z: float) -> float:
        return self.width / 2 + x * self.scale(z)

    def row(self, z: float, above_m: float = 0.0) -> float:
        """Row of a point so high above the floor."""
        return self.horizon_row + (self.camera_m - above_m) * self.scale(z)

    def half_width_m(self, z: float) -> float:
        """Half of what the picture shows of the floor at this depth."""
        return self.width / 2 / self.scale(z)
