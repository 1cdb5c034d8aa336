"""The six grasp types of the sEMG data set: what the hand looks like before and after it closes."""

from dataclasses import dataclass

import numpy as np

from simeval.errors import unknown_name
from simeval.grasp import JOINT_NAMES, Array

TAXONOMY_VERSION = 1
"""Changes whenever a posture, a contact set or a type does; goes into the records of what was made with it."""

CLOSING_REACH = 2.2
"""Fingers close up to this multiple of the way from preshape to posture, where their limits let them."""
THUMB_PADS = frozenset({"thmiddle", "thdistal"})
"""Links that a thumb holds with; its base belongs to the palm."""

_UCI = "UCI 'sEMG for Basic Hand Movements' (doi 10.24432/C5TK53)"
_FEIX = "Feix et al. 2016, 'The GRASP Taxonomy of Human Grasp Types', doi 10.1109/THMS.2015.2470657"


@dataclass(frozen=True, slots=True, eq=False)
class GraspType:
    """One type of grasp. Postures are in the joint order of `simeval.grasp.JOINT_NAMES`, within the limits."""

    name: str
    label: str
    """Code in the sEMG data: cyl, palm, spher, tip, lat or hook."""
    preshape: Array
    """(22,) rad, the open hand an approach starts with."""
    posture: Array
    """(22,) rad, the hand closed on an everyday object of that type. Closing goes on past it along the same line."""
    contact_links: tuple[str, ...]
    """Links of `HandModel.link_names` that hold the object in a grasp of this type; others may touch as well."""
    thumb_opposed: bool
    """Whether the thumb pushes against the fingers from the other side of the object."""
    source: str


def _hand(fingers: tuple[float, float, float], thumb: tuple[float, ...], **others: float) -> Array:
    """Posture from (MCP, PIP, DIP) flexion of all four fingers, THJ4 to THJ0, and single joints [rad]."""
    values = dict.fromkeys(JOINT_NAMES, 0.0)
    for finger in ("FF", "MF", "RF", "LF"):
        values.update(zip((f"{finger}J2", f"{finger}J1", f"{finger}J0"), fingers, strict=True))
    values.update(zip(("THJ4", "THJ3", "THJ2", "THJ1", "THJ0"), thumb, strict=True))
    values.update(others)
    posture = np.array(list(values.values()))
    posture.flags.writeable = False
    return posture


_PROXIMALS = ("ffproximal", "mfproximal", "rfproximal", "lfproximal")
_MIDDLES = ("ffmiddle", "mfmiddle", "rfmiddle", "lfmiddle")
_TIPS = ("ffdistal", "mfdistal", "rfdistal", "lfdistal")
_THUMB = tuple(sorted(THUMB_PADS, reverse=True))
# Thumb: THJ3 turns it from beside the palm (0) to in front of it (1.2); THJ4 sweeps it across the palm towards
# the little finger (+); THJ1 and THJ0 flex it (−). Spread (J3): + is towards the thumb for every finger.
_SPREAD = {"FFJ3": 0.20, "MFJ3": 0.05, "RFJ3": -0.12, "LFJ3": -0.28}
_STRAIGHT_TWO = {"RFJ2": 0.2, "RFJ1": 0.3, "RFJ0": 0.2, "LFJ2": 0.2, "LFJ1": 0.3, "LFJ0": 0.2}

GRASP_TYPES: dict[str, GraspType] = {
    kind.name: kind
    for kind in (
        GraspType(
            "cylindrical", "cyl",
            _hand((0.20, 0.30, 0.15), (0.15, 1.15, 0.0, 0.30, 0.0), LFJ4=0.1),
            _hand((0.75, 0.85, 0.50), (0.65, 1.15, 0.0, -0.20, -0.40), LFJ4=0.2),
            ("palm", *_PROXIMALS, *_MIDDLES, *_TIPS, *_THUMB), True,
            f"{_UCI}: cylindrical, for holding cylindrical tools; {_FEIX}: medium wrap",
        ),
        GraspType(
            "planar", "palm",
            _hand((0.45, 0.15, 0.05), (0.15, 1.20, 0.0, 0.30, 0.0)),
            _hand((1.15, 0.25, 0.10), (0.55, 1.20, 0.0, -0.10, -0.15)),
            (*_TIPS, "thdistal"), True,
            f"{_UCI}: palmar, for grasping with the palm facing the object; {_FEIX}: parallel extension",
        ),
        GraspType(
            "spherical", "spher",
            _hand((0.15, 0.35, 0.25), (0.20, 1.15, 0.0, 0.30, 0.0), **_SPREAD, LFJ4=0.2),
            _hand((0.55, 0.70, 0.45), (0.50, 1.15, 0.0, -0.15, -0.30), **_SPREAD, LFJ4=0.3),
            ("palm", *_PROXIMALS, *_MIDDLES, *_TIPS, *_THUMB), True,
            f"{_UCI}: spherical, for holding spherical tools; {_FEIX}: power sphere",
        ),
        GraspType(
            "tip", "tip",
            _hand((0.45, 0.50, 0.20), (0.25, 1.10, 0.05, 0.10, 0.0), **_STRAIGHT_TWO),
            _hand((0.95, 0.72, 0.35), (0.55, 1.12, 0.05, -0.10, -0.20), **_STRAIGHT_TWO),
            ("ffdistal", "mfdistal", "thdistal"), True,
            f"{_UCI}: tip, for holding small tools; {_FEIX}: prismatic two-finger",
        ),
        GraspType(
            "lateral", "lat",
            _hand((1.10, 1.40, 0.80), (0.50, 0.55, 0.0, 0.35, 0.0)),
            _hand((1.10, 1.40, 0.80), (0.40, 0.62, 0.15, -0.20, -0.50)),
            ("ffproximal", "ffmiddle", "ffdistal", "thdistal"), False,
            f"{_UCI}: lateral, for holding thin, flat objects; {_FEIX}: lateral",
        ),
        GraspType(
            "hook", "hook",
            _hand((0.10, 0.70, 0.40), (-0.60, 0.30, 0.0, 0.50, 0.0)),
            _hand((0.45, 1.40, 0.90), (-0.60, 0.30, 0.0, 0.50, 0.0)),
            ("palm", *_PROXIMALS, *_MIDDLES, *_TIPS), False,
            f"{_UCI}: hook, for supporting a heavy load; {_FEIX}: fixed hook",
        ),
    )
}  # fmt: skip
"""Grasp types by name."""


def grasp_type(name: str) -> GraspType:
    """Return a type by its name.

    Raises:
        SettingError: there is no such type.
    """
    if name not in GRASP_TYPES:
        raise unknown_name("grasp type", name, GRASP_TYPES)
    return GRASP_TYPES[name]
