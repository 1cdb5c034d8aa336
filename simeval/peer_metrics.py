"""What peers publish about a grasp, computable beside simeval's own numbers.

Outside `simeval.metrics`, since no record depends on them. Every definition is as its source has it, on simeval's
hand (exact primitives) and objects; what each of them measures is said in `MEASURES`.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simeval.grasp import Array
from simeval.hand import HandModel, load_hand
from simeval.metrics.penetration import primitive_distance, query_points
from simeval.objects.model import ObjectModel

POINTS = 2000  # sampled on the object and on the hand, as DexGraspNet does
CONTACT = 0.005  # m between hand and object that counts as contact, DexGraspBench's threshold
CONE_EDGES = 8  # of the pyramid that stands for a friction cone
PULL = 0.1  # external force of QP, in units of one contact's largest
_WEIGHT = 1e3  # of the constraints in the least squares of QP

MEASURES = {
    "any_of_six": "Share of grasps that hold in at least one of six gravity directions: an upper bound, since a hand "
    "that only lies under the object has one.",
    "E_pen": "Sum, over 2,000 points of the object's surface, of their depth in the hand [m] (DexGraspNet): mixes "
    "depth with overlapped area and depends on the sample.",
    "Pen": "Largest distance from a point of the hand to the nearest sampled point of the object whose normal points "
    "away from it [mm] (SceneDiffuser, UGG, DexGrasp-Anything): where the nearest point lies round an edge or on a far "
    "side, a point outside counts as inside, so it isn't a depth.",
    "Q1": "Radius of the largest ball about 0 in the convex hull of the contacts' wrenches (Ferrari & Canny 1992, "
    "epsilon): how large a disturbance unit forces resist in the worst direction, 0 without force closure. Knows no "
    "torque limits.",
    "QP": "Mean wrench error left when the contacts best balance a pull along each of six directions (DexGraspBench, "
    "after BODex), 0 is best: unlike Q1 it asks about forces only, and is smooth without force closure.",
}
"""One sentence on each."""


@dataclass(frozen=True, slots=True)
class PeerScores:
    """Scores of one grasp; NaN for Q1 and QP where nothing touches."""

    e_pen: float  # m, summed
    pen_mm: float
    q1: float  # torques in units of the object's radius
    qp: float  # in units of one contact's largest force
    contacts: int


def peer_scores(
    model: ObjectModel, rotation: Array, translation: Array, joints: Array, friction: float = 1.0, seed: int = 0
) -> PeerScores:
    """Score one grasp.

    Args:
        model: the object.
        rotation: (3, 3) palm to object.
        translation: (3,) m.
        joints: (22,) rad.
        friction: coefficient of the cones.
        seed: of the points sampled on the object and the hand.
    """
    surface = _object_surface(model, seed)
    points, normals = contact_points(model, rotation, translation, joints)
    size = float(np.linalg.norm(model.surface.vertices - model.center_of_mass, axis=1).max())
    return PeerScores(
        summed_penetration(surface[0], rotation, translation, joints),
        1e3 * sign_of_normal_depth(*surface, _hand_points(seed, rotation, translation, joints)),
        q1(points - model.center_of_mass, normals, friction, size) if len(points) else np.nan,
        qp(points, normals, friction) if len(points) else np.nan,
        len(points),
    )


def summed_penetration(points: Array, rotation: Array, translation: Array, joints: Array) -> float:
    """Sum [m] of the depths of an object's points (P, 3) in the hand (Wang et al. 2023, DexGraspNet, E_pen)."""
    hand = load_hand()
    frames, origins = hand.primitive_transforms(joints)
    frames, origins = rotation @ frames, origins @ rotation.T + translation
    depth = np.zeros(len(points))
    for k in range(len(hand.primitives)):
        depth = np.maximum(depth, -primitive_distance(hand, k, (points - origins[k]) @ frames[k]))
    return float(depth.sum())


def sign_of_normal_depth(points: Array, normals: Array, hand: Array) -> float:
    """Largest distance [m] from points (H, 3) of the hand to the nearest of an object's points (P, 3), of those that
    lie behind that point's normal (P, 3); 0 where none does.
    """
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(points).query(hand)
    behind = np.einsum("ij,ij->i", points[nearest] - hand, normals[nearest]) > 0
    return float(distance[behind].max(initial=0.0))


def contact_points(model: ObjectModel, rotation: Array, translation: Array, joints: Array) -> tuple[Array, Array]:
    """Return one contact for each collision primitive within 5 mm of the object: points (C, 3) [m] on its surface and
    outward unit normals (C, 3) of the object there.
    """
    points, radii, owners = query_points(load_hand(), rotation, translation, joints)
    tree, vertices, faces, face_normals = _tree(model)
    squared, face, closest = tree.squared_distance(vertices, faces, np.ascontiguousarray(points))
    distance = np.sqrt(squared) * np.where(np.einsum("ij,ij->i", points - closest, face_normals[face]) < 0, -1, 1)
    gap = np.abs(distance - radii)
    found = []
    for k in np.unique(owners):
        own = np.flatnonzero(owners == k)
        best = own[gap[own].argmin()]
        if gap[best] < CONTACT:
            found.append(best)
    return closest[found], face_normals[face[found]]


def q1(points: Array, normals: Array, friction: float, size: float) -> float:
    """Ferrari & Canny's epsilon of contacts at (C, 3) [m] from the centre of mass with outward normals (C, 3).

    Wrenches of all contacts' cone edges at unit normal force, torques divided by `size` [m]; the hull of their union
    (the L1 metric: forces share one unit). 0 where the hull doesn't hold the origin.
    """
    from scipy.spatial import ConvexHull, QhullError

    wrenches = _cone_wrenches(points / size, normals, friction, CONE_EDGES)
    if np.linalg.matrix_rank(wrenches - wrenches.mean(axis=0), tol=1e-9) < 6:
        return 0.0
    try:
        offsets = ConvexHull(wrenches).equations[:, -1]  # unit normals outwards: inside is n·w + offset <= 0
    except QhullError:  # flat but for rounding
        return 0.0
    return max(0.0, float(-offsets.max()))


def qp(points: Array, normals: Array, friction: float) -> float:
    """Mean wrench error of contacts at (C, 3) [m] with outward normals (C, 3) that balance 0.1 along ±x ±y ±z.

    Each contact presses with at most 1, all together with at least 1, in a pyramid of 4 edges; torques are about
    the mean of the contacts, in metres, as in DexGraspBench.
    """
    from scipy.optimize import nnls

    wrenches = _cone_wrenches(points - points.mean(axis=0), normals, friction, 4)
    edges, contacts = len(wrenches), len(points)
    # columns: edge forces, slack of each contact's limit, excess of the sum
    limit = np.kron(np.eye(contacts), np.ones(4))
    system = np.block(
        [
            [wrenches.T, np.zeros((6, contacts + 1))],
            [_WEIGHT * limit, _WEIGHT * np.eye(contacts), np.zeros((contacts, 1))],
            [np.full((1, edges), _WEIGHT), np.zeros((1, contacts)), np.full((1, 1), -_WEIGHT)],
        ]
    )
    errors = []
    for axis in range(3):
        for sign in (-PULL, PULL):
            pull = np.zeros(6)
            pull[axis] = sign
            wanted = np.concatenate([-pull, np.full(contacts + 1, _WEIGHT)])
            forces = nnls(system, wanted, maxiter=100 * system.shape[1])[0][:edges]
            errors.append(float(np.linalg.norm(wrenches.T @ forces + pull)))
    return float(np.mean(errors))


def _cone_wrenches(points: Array, normals: Array, friction: float, edges: int) -> Array:
    """(C * edges, 6) forces and torques of cone edges with unit normal force, into the object."""
    inward = -normals
    helper = np.where(np.abs(inward[:, :1]) < 0.9, [[1.0, 0, 0]], [[0.0, 1, 0]])
    first = np.cross(inward, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(inward, first)
    angles = 2 * np.pi * np.arange(edges) / edges
    tangents = np.cos(angles)[:, None] * first[:, None] + np.sin(angles)[:, None] * second[:, None]
    forces = (inward[:, None] + friction * tangents).reshape(-1, 3)
    return np.hstack([forces, np.cross(np.repeat(points, edges, axis=0), forces)])


@lru_cache(maxsize=16)
def _object_surface(model: ObjectModel, seed: int) -> tuple[Array, Array]:
    """Random points (P, 3) [m] on the surface, even by area, and their faces' outward normals (P, 3)."""
    rng = np.random.default_rng(seed)
    corners = model.surface.vertices[model.surface.faces]  # (F, 3, 3)
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(crossed, axis=1)
    face = rng.choice(len(area), POINTS, p=area / area.sum())
    weights = rng.dirichlet((1.0, 1.0, 1.0), POINTS)
    return np.einsum("pk,pkd->pd", weights, corners[face]), crossed[face] / area[face, None]


def _hand_points(seed: int, rotation: Array, translation: Array, joints: Array) -> Array:
    """Points (P, 3) [m] on the hand's primitives, in the object frame."""
    hand = load_hand()
    frames, origins = hand.primitive_transforms(joints)
    local, owners = _local_hand_points(hand, seed)
    palm = np.einsum("nij,nj->ni", frames[owners], local) + origins[owners]
    return palm @ rotation.T + translation


@lru_cache(maxsize=4)
def _local_hand_points(hand: HandModel, seed: int) -> tuple[Array, NDArray[np.intp]]:
    """Random points (P, 3), even by area, in the frames of the primitives (P,) that they are on."""
    rng = np.random.default_rng(seed)
    areas = []
    for shape in hand.primitives:
        x, y, z = shape.half_sizes
        capsule = 4 * np.pi * shape.radius * (shape.half_length + shape.radius)
        areas.append(capsule if shape.radius else 8 * (x * y + y * z + z * x))
    owners = np.sort(rng.choice(len(areas), POINTS, p=np.array(areas) / sum(areas)))
    points = [_on_primitive(hand, int(k), rng) for k in owners]
    return np.array(points), owners


def _on_primitive(hand: HandModel, index: int, rng: np.random.Generator) -> Array:
    shape = hand.primitives[index]
    half = shape.half_sizes
    if not shape.radius:
        sides = np.array([half[1] * half[2], half[0] * half[2], half[0] * half[1]])
        point = rng.uniform(-half, half)
        axis = rng.choice(3, p=sides / sides.sum())
        point[axis] = rng.choice((-1.0, 1.0)) * half[axis]
        return point
    direction = rng.normal(size=3)
    if rng.random() < shape.half_length / (shape.half_length + shape.radius):  # on the cylinder
        direction[2] = 0.0
        along = rng.uniform(-shape.half_length, shape.half_length)
    else:
        along = np.copysign(shape.half_length, direction[2])
    return shape.radius * direction / np.linalg.norm(direction) + np.array([0.0, 0.0, along])


@lru_cache(maxsize=16)
def _tree(model: ObjectModel) -> tuple["igl.AABB", Array, NDArray[np.int64], Array]:  # type: ignore[name-defined]  # noqa: F821
    import igl

    vertices, faces = model.surface.vertices, model.surface.faces.astype(np.int64)
    tree = igl.AABB()
    tree.init(vertices, faces)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return tree, vertices, faces, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
