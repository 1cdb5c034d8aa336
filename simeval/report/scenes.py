"""What the 3D viewer draws, as JSON types: the hand's primitives, objects' surfaces, and where both were when.

Numbers travel as base64 of little-endian 16-bit integers: lengths in units of 0.1 mm for motions and of a part in
32,000 of an object's size for its surface, angles in 0.1 mrad. The reader is `assets/viewer.js`.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simeval.grasp import Array
from simeval.hand import load_hand
from simeval.motion import Moment, Motion
from simeval.objects.model import Mesh, ObjectModel
from simeval.physics.world import quaternion
from simeval.records import TrialRecord

LENGTH_UNIT = 1e-4  # m
ANGLE_UNIT = 1e-4  # rad
MOST_MOMENTS = 80
MOST_FACES = 3000
_LARGEST = 32000
_GRID_CELLS = (48, 32, 24, 16, 12, 8)


def hand_scene() -> dict[str, Any]:
    """Return the hand: its tree of joints, and its capsules and boxes (a capsule is a segment with a radius)."""
    hand = load_hand()
    return {
        "links": list(hand.link_names),
        "parent": hand.parent.tolist(),
        "rotation": hand.origin_rotation.reshape(-1, 9).round(7).tolist(),  # joint frame to parent link
        "translation": hand.origin_translation.round(7).tolist(),
        "axis": hand.axes.round(7).tolist(),
        "primitives": [
            {
                "link": p.link, "rotation": p.rotation.ravel().round(7).tolist(),
                "translation": p.translation.round(7).tolist(), "radius": p.radius,
                "half": p.half_sizes.round(7).tolist(),
            }
            for p in hand.primitives
        ],
    }  # fmt: skip


def object_scene(model: ObjectModel) -> dict[str, Any]:
    """Return an object's surface, coarser where it has more than `MOST_FACES` triangles, and where it stands."""
    mesh = coarse(model.surface, MOST_FACES)
    unit = float(np.abs(mesh.vertices).max()) / _LARGEST
    return {
        "unit": unit,
        "vertices": _pack(mesh.vertices / unit),
        "faces": base64.b64encode(mesh.faces.astype("<u2").tobytes()).decode(),
        "center": model.center_of_mass.round(6).tolist(),
        "up": model.up.tolist(),
        "floor": float((model.surface.vertices @ model.up).min()),
        "size": float(np.ptp(model.surface.vertices, axis=0).max()),
    }


def trial_scene(record: TrialRecord, motion: Motion | None, note: str = "") -> dict[str, Any]:
    """Return one trial: the grasp as it was commanded and, where there is a motion, what became of it.

    Args:
        record: as it is stored.
        motion: one run of the trial.
        note: why there is none, or in what it differs from the record.
    """
    moments = [m for m in (motion.moments if motion else []) if _finite(m)]
    held = None
    if motion is not None and motion.held is not None and _finite(motion.moments[motion.held]):
        held_moment = motion.moments[motion.held]
        moments = _thin(moments, held_moment)
        held = next(i for i, m in enumerate(moments) if m is held_moment)
    else:
        moments = _thin(moments, None)
    contacts = motion.contacts if motion is not None and held is not None else np.zeros((0, 3))
    return {
        "palm": [*record.rotation, *record.translation],
        "joints": record.joints,
        "moments": _pack(np.array([_row(m) for m in moments]).reshape(-1, 31)),
        "count": len(moments),
        "held": held,
        "contacts": contacts.round(5).tolist(),
        "lifted": record.protocol == "lift",
        "note": note,
    }


def coarse(mesh: Mesh, most_faces: int) -> Mesh:
    """Return a mesh to look at with at most so many faces: vertices in one cell of a grid become their mean."""
    for cells in _GRID_CELLS:
        if len(mesh.faces) <= most_faces and len(mesh.vertices) < 2**16:
            break
        low, size = mesh.vertices.min(axis=0), float(np.ptp(mesh.vertices, axis=0).max())
        cell = np.floor((mesh.vertices - low) / size * cells).astype(np.int64)
        _, index = np.unique(cell, axis=0, return_inverse=True)
        index = index.reshape(-1)
        count = np.bincount(index)[:, None]
        vertices = np.stack([np.bincount(index, mesh.vertices[:, k]) for k in range(3)], axis=1) / count
        faces = index[mesh.faces]
        whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        mesh = Mesh(vertices, np.unique(faces[whole], axis=0).astype(np.int32))
    return mesh


def _thin(moments: list[Moment], keep: Moment | None) -> list[Moment]:
    """At most `MOST_MOMENTS` of some moments, evenly, with the first, the last and the one to keep."""
    if len(moments) <= MOST_MOMENTS:
        return moments
    chosen = set(np.linspace(0, len(moments) - 1, MOST_MOMENTS).round().astype(int).tolist())
    return [m for i, m in enumerate(moments) if i in chosen or m is keep]


def _finite(moment: Moment) -> bool:
    return all(np.isfinite(part).all() for part in moment)


def _row(moment: Moment) -> Array:
    """31 numbers: origin, rise, time in ms, quaternion xyzw, 22 joints; each in its unit."""
    turn: ArrayLike = quaternion(moment.rotation) * _LARGEST
    lengths: Sequence[float] = [*moment.origin, moment.rise]
    return np.concatenate([np.array(lengths) / LENGTH_UNIT, [1e3 * moment.time], turn, moment.joints / ANGLE_UNIT])


def _pack(numbers: Array) -> str:
    whole: NDArray[np.int16] = np.clip(np.round(numbers), -32767, 32767).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode()
