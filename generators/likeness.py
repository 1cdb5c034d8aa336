"""How alike objects are, for retrieval: distances between descriptions, at the best of four quarter turns about up."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simeval.bank import GraspBank, ObjectShape, load_bank, shape_of
from simeval.errors import DataError
from simeval.grasp import Array, euler_to_matrix
from simeval.metrics.distance import object_distance
from simeval.objects.library import ObjectLibrary
from simeval.objects.model import ObjectModel

Descriptor = Literal["box", "map", "points", "learned"]
"""What is compared of two objects.

- `box`: extents, volume, and where the centre of mass is in the bounding box.
- `map`: signed distances on a grid around the centre of mass, and the size.
- `points`: signed distances at points of a ball that are the same for every object (Prokudin et al. 2019, "Efficient
  learning on point clouds with basis point sets", doi 10.1109/ICCV.2019.00443), and the size.
- `learned`: what the object encoder of the source system's model makes of its distance map; it knows no turns, so
  those of `box` are taken.
"""
Key = tuple[str, float]
"""Object code, scale."""
TURNS = 4
CENTER_WEIGHT = 1.0  # of the centre of mass's place in the bounding box against a factor e in size
SHAPE_WEIGHT = 5.0  # of the root mean square difference of distances over radii, likewise
NODES, REACH = 12, 1.15  # of the map: a side, and radii from the centre of mass
POINTS = 512
ENCODER = "paper"
"""Preset whose encoder `learned` asks."""


class Known:
    """Objects described once, to be compared with others."""

    def __init__(
        self, keys: Sequence[Key], types: Mapping[str, NDArray[np.bool_]], shapes: Mapping[Key, ObjectShape],
        load: Callable[[str, float], ObjectModel], by: Descriptor,
    ) -> None:  # fmt: skip
        """Describe objects.

        Args:
            keys: of the objects (M).
            types: which of them (M,) have grasps of a type, by type.
            shapes: of each.
            load: reads an object; not called by `box`.
            by: what to compare.
        """
        self.keys, self.types, self.shapes, self.by = keys, types, shapes, by
        self.codes = np.array([code for code, _ in keys], dtype=np.str_)
        self._boxes = np.array([box(shapes[key], 0) for key in keys])
        if by != "box":
            self._described = np.array([_description(load(*key), by, 0) for key in keys])

    def having(self, grasp_type: str | None) -> NDArray[np.bool_]:
        """Which objects (M,) have grasps, of a type."""
        if grasp_type is None:
            return np.ones(len(self.keys), dtype=bool)
        return self.types.get(grasp_type, np.zeros(len(self.keys), dtype=bool))

    def compare(self, model: ObjectModel) -> tuple[Array, NDArray[np.intp]]:
        """Return how far each object (M,) is from another, and by how many quarter turns it is laid over that."""
        turned = [box(shape_of(model), -yaw) for yaw in range(TURNS)]
        gaps = np.stack([np.linalg.norm(self._boxes - one, axis=1) for one in turned], axis=1)
        if self.by in ("map", "points"):
            turned = [_description(model, self.by, -yaw) for yaw in range(TURNS)]
            gaps = np.stack([np.linalg.norm(self._described - one, axis=1) for one in turned], axis=1)
        gaps = np.round(gaps, 12)  # turns that are as good as each other: the first
        yaw = gaps.argmin(axis=1)
        if self.by == "learned":
            return np.linalg.norm(self._described - _description(model, self.by, 0), axis=1), yaw
        return gaps.min(axis=1), yaw


@lru_cache(maxsize=4)
def known(bank: str, data: Path | None, by: Descriptor) -> tuple[GraspBank, Known]:
    """Read a bank and describe its objects, measuring those whose shape it doesn't hold; once a process."""
    whole, library = load_bank(bank, data), ObjectLibrary(data, size=1)
    shapes = dict(whole.shapes)
    units: dict[str, ObjectShape | None] = {}
    for code, scale in whole.objects():
        if (code, scale) in shapes:
            continue
        if code not in units:
            try:
                units[code] = shape_of(library.load(code, 1.0))
            except DataError:  # its mesh isn't there: it can't be compared
                units[code] = None
        unit = units[code]
        if unit is not None:
            shapes[code, scale] = ObjectShape(
                unit.low * scale, unit.high * scale, unit.center * scale, unit.volume * scale**3, unit.up
            )
    keys, held = [key for key in whole.objects() if key in shapes], whole.counts()
    types = {kind: np.array([(*key, kind) in held for key in keys]) for kind in set(whole.types.tolist())}
    return whole, Known(keys, types, shapes, library.load, by)


def box(shape: ObjectShape, yaw: int) -> Array:
    """Return the (7,) numbers of `box`, after `yaw` quarter turns about up.

    Logarithms of the 3 extents and of the cube root of the volume (half weight), and the centre of mass relative to
    the bounding box's centre as shares of the extents.
    """
    frame = up_frame(shape.up) @ quarter_turn(yaw).T
    extents = np.abs(frame.T) @ (shape.high - shape.low)
    offset = frame.T @ (shape.center - (shape.low + shape.high) / 2) / extents
    size = np.log(shape.volume) / 3
    return np.concatenate([np.log(extents), [size / 2], CENTER_WEIGHT * offset])


def _description(model: ObjectModel, by: Descriptor, yaw: int) -> Array:
    """Return the numbers (D,) of `map`, `points` or `learned`."""
    if by == "learned":
        return _embedding(model)
    radius = float(np.linalg.norm(model.surface.vertices - model.center_of_mass, axis=1).max())
    frame = up_frame(model.up) @ quarter_turn(yaw).T
    unit = _grid() if by == "map" else _basis()
    distance = object_distance(model).signed(model.center_of_mass + radius * unit @ frame.T) / radius
    return np.concatenate([SHAPE_WEIGHT / np.sqrt(len(unit)) * distance, [np.log(radius)]])


def encoder_fingerprint() -> str:
    """16 hex digits that name the weights that `learned` rests on."""
    from simeval.generators.diffusion.generator import content_digest, weights_folder

    return content_digest(weights_folder(ENCODER))


def _embedding(model: ObjectModel) -> Array:
    import torch

    from simeval.generators.diffusion.generator import kept_model, weights_folder
    from simeval.generators.diffusion.geometry import describe

    encoder = kept_model(weights_folder(ENCODER))
    shape = describe(model, encoder.config.network.geometry)
    with torch.no_grad():
        found = encoder.network.encode(encoder.network.pack([shape]), torch.tensor([0]))
    assert isinstance(found, torch.Tensor)
    return found[0].double().numpy()


def _basis() -> Array:
    from simeval.generators.diffusion.geometry import basis_points  # brings torch

    return basis_points()[:POINTS]


@lru_cache(maxsize=1)
def _grid() -> Array:
    axis = np.linspace(-REACH, REACH, NODES)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def up_frame(up: Array) -> Array:
    """Right-handed frame (3, 3) whose third column is `up`, its first the object axis most nearly across it."""
    side = np.eye(3)[int(np.argmin(np.abs(up)))]
    x = side - (side @ up) * up
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up], axis=1)


def quarter_turn(yaw: int) -> Array:
    """Rotation (3, 3) by `yaw` quarter turns about z; exact."""
    return np.round(euler_to_matrix([0.0, 0.0, yaw * np.pi / 2]))
