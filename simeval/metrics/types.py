"""Which type a grasp is of: by its 28 numbers, by its joints, and by what holds the object.

| measure | looks at | knows |
|---|---|---|
| `paper-28d` | joints, Euler angles and translation, raw | cylindrical, planar, spherical, or none |
| `commanded` | the joints, whatever the wrist does | all six types |
| `achieved` | links that push, their directions, and the joints, when the squeeze is complete | all six, or none |
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simeval.errors import SettingError
from simeval.grasp import Array, GraspBatch
from simeval.hand import FINGERS, load_hand
from simeval.taxonomy import CLOSING_REACH, GRASP_TYPES, THUMB_PADS

PAPER_TYPES = ("cylindrical", "planar", "spherical")
PAPER_THRESHOLD = 1.5
"""The paper's own is unknown. This one keeps 57 of the 699 released grasps, 8.2 %; the paper kept 21,000 grasps of
1,000 objects, which at DexGraspNet's mean of 247 grasps an object is 8.5 %."""
PAPER_CENTER = (0.005, -0.035, 0.09)
"""Where the object's origin lies in the palm frame [m] in a reference made without data: between thumb and fingers."""

OPPOSES = 0.0
"""`thumb_opposition` below which the thumb pushes against the rest: more than a right angle between them."""
SIDE = 0.5**0.5
"""`index_side` from which the index finger holds with its side: its push is within 45° of the thumb's side."""
_PALM = ("palm", "lfmetacarpal", "thproximal")
_CHUNK = 512
_PATH_POINTS = 45


# By the 28 numbers


def paper_references(released: GraspBatch | None = None) -> dict[str, Array]:
    """Return the reference grasp (28,) of each of `PAPER_TYPES`, in the order of `grasp.VECTOR_NAMES`.

    The paper picked three grasps of DexGraspNet by hand and doesn't give them. Here: of `released`, the grasp whose
    joints are nearest the type's posture, each joint over its range (the first of several). Without grasps to choose
    from: the posture itself, palm frame parallel to the object's, object at `PAPER_CENTER`.
    """
    postures = np.array([GRASP_TYPES[name].posture for name in PAPER_TYPES])
    if released is None or not len(released):
        pose = np.concatenate([np.zeros(3), -np.array(PAPER_CENTER)])
        return {name: np.concatenate([q, pose]) for name, q in zip(PAPER_TYPES, postures, strict=True)}
    hand = load_hand()
    away = (released.joints[:, None] - postures) / (hand.upper - hand.lower)
    nearest = np.linalg.norm(away, axis=-1).argmin(axis=0)
    return dict(zip(PAPER_TYPES, released[nearest].to_vectors(), strict=True))


def paper_distances(vectors: ArrayLike, references: Mapping[str, Array]) -> Array:
    """Euclidean distances (N, R) of grasps (N, 28) to R references (28,), over the raw radians and metres.

    The source paper's measure: Euler angles dominate it, and they wrap.
    """
    v = np.asarray(vectors, dtype=np.float64)
    return np.linalg.norm(v[:, None] - np.array(list(references.values())), axis=-1)


def paper_types(
    vectors: ArrayLike, references: Mapping[str, Array], threshold: float = PAPER_THRESHOLD
) -> NDArray[np.str_]:
    """Return the nearest reference's type of each grasp (N, 28), "" where none is nearer than `threshold`.

    Raises:
        SettingError: the threshold is not above 0.
    """
    return _nearest(paper_distances(vectors, references), list(references), threshold)


# By the joints


@cache
def closing_paths() -> Array:
    """(6, 45, 22) rad: how each type closes, from its preshape past its posture, within limits."""
    share = np.linspace(0, CLOSING_REACH, _PATH_POINTS)[:, None]
    paths = [k.preshape + share * (k.posture - k.preshape) for k in GRASP_TYPES.values()]
    clipped = load_hand().clip(np.array(paths))[0]
    clipped.flags.writeable = False
    return clipped


def commanded_distances(joints: ArrayLike) -> Array:
    """Distance (N, 6) of joints (N, 22) rad to each type of `GRASP_TYPES`, independent of the wrist.

    Root mean square over the 22 joints of the difference over the joint's range, to the nearest point of the type's
    closing path: how far a hand has closed says how big the object is, not what type the grasp is of. The four
    fingers are compared at one degree of closing and the thumb at its own. (With one degree for all, a thumb that
    stopped early makes another type of a grasp; with one for each finger, a tip grasp, whose ring and little finger
    stay open, and a cylindrical one differ by little more than noise.)
    """
    hand = load_hand()
    clipped = np.where(np.isfinite(joints), hand.clip(joints)[0], np.nan)
    reach = hand.upper - hand.lower
    thumb = FINGERS["TH"].start
    parts = []
    for start in range(0, len(clipped), _CHUNK):
        square = ((clipped[start : start + _CHUNK, None, None] - closing_paths()) / reach) ** 2  # (n, 6, 45, 22)
        parts.append(square[..., :thumb].sum(-1).min(-1) + square[..., thumb:].sum(-1).min(-1))
    return np.sqrt(np.concatenate(parts) / len(reach)) if parts else np.zeros((0, len(GRASP_TYPES)))


def commanded_types(joints: ArrayLike, threshold: float = np.inf) -> NDArray[np.str_]:
    """Return the nearest type of each posture (N, 22) rad; "" where it is `threshold` away or farther, or not finite.

    Raises:
        SettingError: the threshold is not above 0.
    """
    return _nearest(commanded_distances(joints), list(GRASP_TYPES), threshold)


# By what holds the object


def thumb_opposition(pushes: Mapping[str, Array]) -> float:
    """Cosine between the mean push of the thumb's pads and that of all other links; −1: straight against each other.

    Args:
        pushes: link -> (3,) push on the object along its contact normals, in any one frame and unit.

    Each link counts as one unit vector: weighted by their forces, the pushes of a grasp that keeps still would always
    cancel out. The thumb's base counts as palm. NaN where the thumb or everything else is away.
    """
    thumb = [_unit(push) for link, push in pushes.items() if link in THUMB_PADS]
    rest = [_unit(push) for link, push in pushes.items() if link not in THUMB_PADS]
    if not thumb or not rest:
        return float("nan")
    return float(_unit(np.mean(thumb, axis=0)) @ _unit(np.mean(rest, axis=0)))


def index_side(pushes: Mapping[str, Array]) -> float:
    """How far the index finger pushes towards the thumb's side: the palm frame's x of its mean unit push, −1 to 1.

    Args:
        pushes: as in `thumb_opposition`, in the palm frame. Flexion turns the fingers about x, so that a push with
            the pad has no x to speak of, however far the finger is bent. NaN where the index finger is away.
    """
    index = [_unit(push) for link, push in pushes.items() if link.startswith("ff")]
    return float(_unit(np.mean(index, axis=0))[0]) if index else float("nan")


def admitted_types(contacts: Collection[str], opposition: float, side: float) -> list[str]:
    """Types that can hold an object with these contacts.

    Args:
        contacts: links that push on the object.
        opposition: what `thumb_opposition` gave.
        side: what `index_side` gave.

    With a thumb that opposes (`OPPOSES`): cylindrical and spherical hold with two fingers or more, and with more than
    fingertips; planar with two fingers or more, tip with index or middle finger only, both without the palm, at least
    half of the finger links being tips, and not with the index finger's side (`SIDE`). Lateral holds between the
    thumb and that side. Hook holds with any finger, without an opposing thumb.
    """
    fingers = [link for link in contacts if link not in THUMB_PADS and link not in _PALM]
    used = {link[:2] for link in fingers}
    if not used:
        return []
    sideways = side >= SIDE
    found = ["lateral"] if sideways and not THUMB_PADS.isdisjoint(contacts) else []
    if not opposition < OPPOSES:
        return [*found, "hook"]
    if len(used) >= 2 and not all(link.endswith("distal") for link in contacts):
        found += ["cylindrical", "spherical"]
    tips = sum(link.endswith("distal") for link in fingers)
    if not sideways and 2 * tips >= len(fingers) and not any(link in _PALM for link in contacts):
        found += ["planar"] if len(used) >= 2 else []
        found += ["tip"] if used <= {"ff", "mf"} else []
    return found


def achieved_type(contacts: Collection[str], opposition: float, side: float, joints: ArrayLike) -> str:
    """Return the type of a grasp once the squeeze is complete: of the admitted types the one nearest by its joints.

    Contacts say what can't be: nobody holds in a tip grasp with the palm. What they leave open (cylindrical and
    spherical grasps touch with the same links) the joints (22,) rad, as they are then, decide. Empty where no type is
    admitted; the other arguments are those of `admitted_types`.
    """
    admitted = admitted_types(contacts, opposition, side)
    distances = dict(zip(GRASP_TYPES, commanded_distances(np.asarray(joints)[None])[0], strict=True))
    return min(admitted, key=lambda name: distances[name], default="")


# Agreement


def confusion(a: Sequence[str], b: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    """Counts (K, K) of the pairs of labels; rows are `a`'s, columns `b`'s, in the order of `names`."""
    index = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, ([index[x] for x in a], [index[y] for y in b]), 1)
    return counts


def kappa(counts: ArrayLike) -> float:
    """Cohen's kappa of a confusion matrix (K, K): agreement beyond chance over what there could be; NaN: undefined."""
    share = np.asarray(counts, dtype=float)
    total = share.sum()
    if not total:
        return float("nan")
    share = share / total
    chance = float(share.sum(axis=1) @ share.sum(axis=0))
    return (float(np.trace(share)) - chance) / (1 - chance) if chance < 1 else float("nan")


def chance_fidelity(requested: Sequence[str], found: Sequence[str]) -> float:
    """Fidelity to expect where the requested types are drawn anew from `requested` for the same grasps."""
    names = sorted({*requested, *found})
    counts = confusion(requested, found, names) / max(1, len(requested))
    return float(counts.sum(axis=1) @ counts.sum(axis=0)) if len(requested) else float("nan")


def _nearest(distances: Array, names: Sequence[str], threshold: float) -> NDArray[np.str_]:
    if not threshold > 0:
        raise SettingError(f"the threshold of a distance must be above 0, found {threshold}")
    filled = np.where(np.isnan(distances), np.inf, distances)
    near = filled.min(axis=1) < threshold
    return np.where(near, np.array(names)[filled.argmin(axis=1)], "")


def _unit(vector: Array) -> Array:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
