"""Parametric household shapes as convex pieces, in metres, standing on +z, centred on their bounding box."""

from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np
from numpy.typing import ArrayLike

from simeval.objects.hulls import fibonacci_directions
from simeval.objects.model import Array

Profile = Sequence[tuple[float, float]]  # (radius, height) [mm]
SIDES = 24  # of a circle


def box(size: ArrayLike, center: ArrayLike = (0, 0, 0)) -> Array:
    """Corners (8, 3) of a box."""
    signs = np.array(list(product((-0.5, 0.5), repeat=3)))
    return signs * np.asarray(size, dtype=float) + np.asarray(center, dtype=float)


def revolved(profile: Profile, sides: int = SIDES) -> Array:
    """Points of a convex solid of revolution around z: one circle for each (radius, height)."""
    angle = 2 * np.pi * np.arange(sides) / sides
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(sides)], axis=1)
    return np.concatenate([circle * [r, r, 0] + [0, 0, z] for r, z in profile])


def ellipsoid(radii: ArrayLike, center: ArrayLike = (0, 0, 0)) -> Array:
    """Points (256, 3) on an ellipsoid."""
    return fibonacci_directions(256) * np.asarray(radii, dtype=float) + np.asarray(center, dtype=float)


def ring(profile: Profile, sides: int = 16) -> list[Array]:
    """Wedges around z whose cross-section is the hull of (radius, height) points: a tube, a wall, a torus."""
    angle = 2 * np.pi * np.arange(sides + 1) / sides
    section = np.array([(r, 0.0, z) for r, z in profile])
    turned = [np.stack([section[:, 0] * np.cos(a), section[:, 0] * np.sin(a), section[:, 2]], 1) for a in angle]
    return [np.concatenate(pair) for pair in pairwise(turned)]


def circle_profile(radius: float, center: float, count: int = 10) -> Profile:
    """A circle in the (radius, height) plane: `ring` makes a torus of it."""
    angle = 2 * np.pi * np.arange(count) / count
    return [(center + radius * np.cos(a), radius * np.sin(a)) for a in angle]


def along_x(points: Array) -> Array:
    """Lay a shape down: its z axis becomes x."""
    return points[:, [2, 1, 0]] * [1, -1, 1]


def moved(points: Array, offset: ArrayLike) -> Array:
    """Translate a shape."""
    return points + np.asarray(offset, dtype=float)


def cylinder(diameter: float, height: float) -> list[Array]:
    """An upright cylinder."""
    return [revolved([(diameter / 2, 0), (diameter / 2, height)])]


def bottle(diameter: float, height: float) -> list[Array]:
    """A body, a shoulder, a neck and a cap."""
    r, neck = diameter / 2, max(0.36 * diameter / 2, 9.0)
    return [
        revolved([(0.94 * r, 0), (r, 0.03 * height), (r, 0.62 * height), (neck, 0.80 * height)]),
        revolved([(neck, 0.78 * height), (neck, 0.92 * height)]),
        revolved([(1.2 * neck, 0.91 * height), (1.2 * neck, height)]),
    ]


def mug(diameter: float, height: float) -> list[Array]:
    """An open wall, a bottom and a handle of five bars."""
    r, wall, thick = diameter / 2, 4.0, 9.0
    pieces = ring([(r - wall, 0), (r, 0), (r, height), (r - wall, height)])
    pieces.append(revolved([(r - 1, 0), (r - 1, 6.0)], 16))
    angle = np.linspace(-np.pi / 2, np.pi / 2, 6)
    reach, rise = 30.0, 0.36 * height
    x, z = r - 3 + reach * np.cos(angle), height / 2 + rise * np.sin(angle)
    ends = [box((thick, 0.9 * thick, thick), (a, 0, b)) for a, b in zip(x, z, strict=True)]
    return pieces + [np.concatenate(pair) for pair in pairwise(ends)]


def tumbler(diameter: float, height: float) -> list[Array]:
    """A cup without handle, wider at the rim."""
    r, foot, wall = diameter / 2, 0.36 * diameter, 3.0
    wall_pieces = ring([(foot - wall, 0), (foot, 0), (r, height), (r - wall, height)])
    return [*wall_pieces, revolved([(foot - 1, 0), (foot - 1, 5.0)], 16)]


def bowl(diameter: float, height: float) -> list[Array]:
    """Two conical bands and a bottom."""
    r, wall = diameter / 2, 4.0
    foot, knee = 0.45 * r, (0.84 * r, 0.45 * height)
    lower = ring([(foot - wall, wall), (foot, 0), (knee[0], knee[1]), (knee[0] - wall, knee[1] + 1)])
    upper = ring([(knee[0] - wall, knee[1] - 1), knee, (r, height), (r - wall, height)])
    return [*lower, *upper, revolved([(foot, 0), (foot + 1, wall)], 16)]


def jar(diameter: float, height: float) -> list[Array]:
    """A body with a wider lid."""
    r = diameter / 2
    return [
        revolved([(0.95 * r, 0), (r, 0.05 * height), (r, 0.7 * height), (0.85 * r, 0.78 * height)]),
        revolved([(0.92 * r, 0.76 * height), (0.92 * r, height)]),
    ]


def pen(diameter: float, length: float) -> list[Array]:
    """A barrel with a tip, lying along x."""
    r = diameter / 2
    return [along_x(revolved([(0.8 * r, 0), (r, 3), (r, 0.88 * length), (0.2 * r, length)], 16))]


def card(thickness: float, width: float) -> list[Array]:
    """A card, lying; its sides are those of a bank card (1.586 to 1)."""
    return [box((1.586 * width, width, thickness))]


def handle(diameter: float, length: float) -> list[Array]:
    """A drawer handle: a bar on two posts on a base plate."""
    r, height = diameter / 2, 45.0
    bar = moved(along_x(revolved([(r, -length / 2), (r, length / 2)], 16)), (0, 0, height))
    posts = [box((diameter, diameter, height), (s * 0.42 * length, 0, height / 2)) for s in (-1, 1)]
    return [bar, *posts, box((length, 1.6 * diameter, 6.0))]


def spoon(length: float, width: float) -> list[Array]:
    """A flat handle and a shallow dish, lying along x."""
    stem = np.concatenate([box((2, 14, 6), (-length / 2, 0, 8)), box((2, 9, 6), (length / 2 - width, 0, 3))])
    center = length / 2 - 0.6 * width
    floor = revolved([(0.30 * width, 0), (0.34 * width, 3)], 12)
    wall = ring([(0.28 * width, 0), (0.32 * width, 0), (0.5 * width, 12), (0.44 * width, 12)], 12)
    return [stem, *(piece * [1.3, 1, 1] + [center, 0, 0] for piece in [floor, *wall])]


def hammer(length: float, diameter: float) -> list[Array]:
    """A handle along x and a steel head across it."""
    r = diameter / 2
    grip = along_x(revolved([(r, -length / 2), (1.1 * r, 0), (0.8 * r, length / 2)], 16))
    head = revolved([(0.9 * r, -2.6 * r), (1.1 * r, -2.2 * r), (1.1 * r, 1.2 * r)], 16)
    claw = np.concatenate([box((2 * r, 2 * r, 2), (0, 0, 1.2 * r)), box((0.4 * r, 1.6 * r, 2), (0, 0, 3.2 * r))])
    return [grip, *(piece[:, [0, 2, 1]] * [1, -1, 1] + [length / 2, 0, 0] for piece in (head, claw))]


def screwdriver(diameter: float, length: float) -> list[Array]:
    """A thick handle and a thin blade, lying along x."""
    r, grip = diameter / 2, 0.48 * length
    return [
        along_x(revolved([(0.8 * r, 0), (r, 6), (0.8 * r, 0.8 * grip), (r, grip - 4), (0.7 * r, grip)], 12)),
        along_x(revolved([(4, grip - 2), (4, length - 8), (2.5, length)], 12)),
    ]


def torus(diameter: float, thickness: float) -> list[Array]:
    """A ring, lying."""
    return ring(circle_profile(thickness / 2, (diameter - thickness) / 2), 24)


def cone(diameter: float, height: float) -> list[Array]:
    """A cone with a blunt tip."""
    return [revolved([(diameter / 2, 0), (0.08 * diameter, height)])]


def disc(diameter: float, thickness: float) -> list[Array]:
    """A disc, lying."""
    return [revolved([(diameter / 2, 0), (diameter / 2, thickness)], 32)]


def plate(diameter: float, height: float) -> list[Array]:
    """A flat bottom and a raised rim."""
    r, wall = diameter / 2, 4.0
    rim = ring([(0.66 * r, 0), (0.70 * r, 0), (r, height), (r, height - wall), (0.66 * r, wall)], 20)
    return [revolved([(0.68 * r, 0), (0.68 * r, wall)], 20), *rim]


def knob(diameter: float, height: float) -> list[Array]:
    """A door knob: a flattened ball on a stem and a rose."""
    r = diameter / 2
    ball = ellipsoid((r, r, 0.72 * r), (0, 0, height - 0.72 * r))
    stem = revolved([(0.45 * r, 0), (0.4 * r, height - 0.72 * r)], 16)
    return [ball, stem, revolved([(0.95 * r, 0), (0.85 * r, 6)])]


def brick(width: float, length: float) -> list[Array]:
    """A toy brick: a block with a 4 by 2 field of studs."""
    height, pitch = 0.6 * width, length / 4
    studs = [
        moved(
            revolved([(0.3 * pitch, 0), (0.3 * pitch, 0.2 * width)], 12),
            (x * pitch, y * width / 2, height - 1),
        )
        for x in (-1.5, -0.5, 0.5, 1.5)
        for y in (-0.5, 0.5)
    ]
    return [box((length, width, height), (0, 0, height / 2)), *studs]


def dumbbell(diameter: float, length: float) -> list[Array]:
    """A bar between two ends, lying along x."""
    r = diameter / 2
    end = [(r, 0), (r, 0.22 * length)]
    left = along_x(revolved(end)) - [length / 2, 0, 0]
    return [left, -left, along_x(revolved([(0.42 * r, -0.4 * length), (0.42 * r, 0.4 * length)], 16))]


def pan(diameter: float, height: float) -> list[Array]:
    """A small pan: wall, bottom and a straight handle along x."""
    r, wall = diameter / 2, 4.0
    sides = ring([(r - wall, 0), (r, 0), (r, height), (r - wall, height)], 20)
    grip = box((110.0, 18.0, 12.0), (r + 52, 0, height - 8))
    return [*sides, revolved([(r - 1, 0), (r - 1, wall)], 20), grip]


def ball(diameter: float, flattening: float) -> list[Array]:
    """A ball, or an ellipsoid whose height is `flattening` times its width."""
    r = diameter / 2
    return [ellipsoid((r, r, flattening * r))]


def block(width: float, ratio: float) -> list[Array]:
    """A box of sides width, 1.4 width and ratio times width."""
    return [box((width, 1.4 * width, ratio * width))]


FAMILIES: dict[str, tuple[Callable[[float, float], list[Array]], Sequence[float], Sequence[float]]] = {
    "ball": (ball, (30, 45, 60, 75), (0.7, 1.0, 1.3)),
    "block": (block, (20, 32, 45, 60), (0.6, 1.5, 2.4)),
    "bottle": (bottle, (45, 55, 65, 75), (130, 170, 210)),
    "bowl": (bowl, (90, 110, 130, 150), (40, 50, 60)),
    "brick": (brick, (30, 40, 50, 60), (60, 90, 120)),
    "card": (card, (4, 8, 12, 16), (45, 54, 70)),
    "cone": (cone, (40, 52, 64, 76), (60, 90, 120)),
    "cylinder": (cylinder, (20, 35, 50, 70), (60, 110, 160)),
    "disc": (disc, (50, 70, 90, 110), (10, 16, 24)),
    "dumbbell": (dumbbell, (40, 50, 60, 70), (110, 140, 170)),
    "hammer": (hammer, (160, 190, 220, 250), (22, 26, 30)),
    "handle": (handle, (12, 16, 20, 24), (100, 130, 160)),
    "jar": (jar, (45, 55, 65, 78), (50, 80, 110)),
    "knob": (knob, (40, 50, 60, 70), (45, 60, 75)),
    "mug": (mug, (66, 74, 82, 88), (75, 90, 105)),
    "pan": (pan, (90, 105, 120, 135), (28, 36, 44)),
    "pen": (pen, (10, 13, 17, 22), (120, 140, 160)),
    "plate": (plate, (100, 115, 130, 145), (14, 20, 26)),
    "ring": (torus, (60, 75, 90, 110), (12, 17, 24)),
    "screwdriver": (screwdriver, (22, 27, 32, 37), (150, 185, 220)),
    "spoon": (spoon, (150, 180, 210, 240), (36, 44, 52)),
    "tumbler": (tumbler, (60, 68, 76, 84), (80, 105, 130)),
}
"""Family → (shape, first sizes, second sizes), in mm unless the shape says otherwise; 12 objects each."""


def shape_pieces(family: str, index: int) -> list[Array]:
    """Convex pieces (P, 3) [m] of one object, `index` 0 to 11, centred on its bounding box."""
    shape, first, second = FAMILIES[family]
    a, b = divmod(index, len(second))
    pieces = [piece / 1000 for piece in shape(first[a], second[b])]
    points = np.concatenate(pieces)
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    return [piece - center for piece in pieces]
