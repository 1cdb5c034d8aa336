"""Pictures of a trial, by PyBullet's software renderer: no screen needed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from tempfile import NamedTemporaryFile

import numpy as np
from numpy.typing import NDArray

from simeval.grasp import Array, GraspBatch
from simeval.hand import load_hand, urdf_path
from simeval.motion import Moment
from simeval.objects.model import Mesh, ObjectModel
from simeval.physics.protocols import shake_axes
from simeval.physics.world import bullet, quaternion

OBJECT_COLOR = (0.36, 0.62, 0.66, 1.0)
FLOOR_COLOR = (0.82, 0.82, 0.8, 1.0)
FILM_FRAMES_PER_S = 20.0

Picture = NDArray[np.uint8]


def render_strip(model: ObjectModel, grasp: GraspBatch, moments: Sequence[Moment], frames: int = 3) -> Picture:
    """Pictures of a trial beside one another (480, 480 * frames, 3), from its first moment to its last."""
    chosen = [moments[i] for i in np.linspace(0, len(moments) - 1, frames).round().astype(int)]
    pictures = [draw(model, grasp.rotation[0], grasp.translation[0], moment) for moment in chosen]
    return np.concatenate(pictures, axis=1)


def render_film(
    model: ObjectModel, grasp: GraspBatch, moments: Sequence[Moment], progress: Callable[[int, int], None] | None = None
) -> Iterator[Picture]:
    """Yield the pictures (480, 480, 3) of a film of a trial at the speed it had; `progress` gets (done, total)."""
    times = np.array([moment.time for moment in moments])
    wanted = film_times(moments)
    latest = np.searchsorted(times, wanted + 1e-9, side="right") - 1
    picture = None
    for done, index in enumerate(latest.tolist()):
        if progress:
            progress(done, len(wanted))
        if picture is None or index != latest[done - 1]:
            picture = draw(model, grasp.rotation[0], grasp.translation[0], moments[index])
        yield picture
    if progress:
        progress(len(wanted), len(wanted))


def film_times(moments: Sequence[Moment]) -> Array:
    """Times (T,) [s] of the pictures of a film; the last moment stays for a second."""
    first, last = moments[0].time, moments[-1].time
    return first + np.arange(round((last - first + 1.0) * FILM_FRAMES_PER_S)) / FILM_FRAMES_PER_S


def draw(
    model: ObjectModel, rotation: Array, translation: Array, moment: Moment, size: int = 480, azimuth: float = 35.0
) -> Picture:
    """Picture (size, size, 3) of a hand at a palm pose in the world and an object; `azimuth` [deg] about up."""
    p = bullet()
    p.resetSimulation()
    hand = p.loadURDF(str(urdf_path()), translation.tolist(), quaternion(rotation).tolist(), useFixedBase=True)
    for i, angle in enumerate(moment.joints.tolist()):
        p.resetJointState(hand, i, angle)
    with NamedTemporaryFile("w", suffix=".obj", prefix="simeval-") as file:
        file.write(_obj(model.surface))
        file.flush()
        shape = p.createVisualShape(p.GEOM_MESH, fileName=file.name, rgbaColor=OBJECT_COLOR)
        p.createMultiBody(0, -1, shape, moment.origin.tolist(), quaternion(moment.rotation).tolist())
    _add_floor(model, moment.rise)
    view, projection = _camera(model, translation, azimuth)
    image = p.getCameraImage(
        size,
        size,
        view,
        projection,
        renderer=p.ER_TINY_RENDERER,
        shadow=0,
        lightDirection=(model.up + np.array([0.6, -0.4, 0.2])).tolist(),
        lightAmbientCoeff=0.65,
        lightDiffuseCoeff=0.5,
    )[2]
    return np.reshape(np.asarray(image, dtype=np.uint8), (size, size, 4))[:, :, :3]


def draw_hand(joints: Array, colors: Mapping[str, Sequence[float]], size: tuple[int, int] = (480, 600)) -> Picture:
    """Picture (height, width, 3) of the hand alone, seen from before the palm and from the thumb's side.

    Args:
        joints: (22,) rad.
        colors: link of `HandModel.link_names` -> red, green, blue, alpha, 0 to 1; others keep the hand's own.
        size: width and height in pixels.
    """
    p = bullet()
    p.resetSimulation()
    body = p.loadURDF(str(urdf_path()), useFixedBase=True)
    for i, angle in enumerate(joints.tolist()):
        p.resetJointState(body, i, angle)
    names = load_hand().link_names
    for name, color in colors.items():
        p.changeVisualShape(body, names.index(name) - 1, rgbaColor=color)
    view = p.computeViewMatrix([0.26, -0.42, 0.16], [0.025, -0.02, 0.08], [0, 0, 1])
    projection = p.computeProjectionMatrixFOV(30, size[0] / size[1], 0.02, 5)
    image = p.getCameraImage(
        *size, view, projection, renderer=p.ER_TINY_RENDERER, shadow=0,
        lightDirection=[0.5, -0.8, 0.8], lightAmbientCoeff=0.65, lightDiffuseCoeff=0.5,
    )[2]  # fmt: skip
    return np.reshape(np.asarray(image, dtype=np.uint8), (size[1], size[0], 4))[:, :, :3]


def _add_floor(model: ObjectModel, rise: float) -> None:
    """A disc on which the object stood; seen from the palm, it sinks as the palm rises."""
    p = bullet()
    height = float((model.surface.vertices @ model.up).min()) - rise - 0.002
    center = model.center_of_mass - (model.center_of_mass @ model.up) * model.up + height * model.up
    radius = 0.6 * float(np.ptp(model.surface.vertices, axis=0).max())
    turn = np.stack([*shake_axes(model.up)[1:], model.up], axis=1)
    disc = p.createVisualShape(p.GEOM_CYLINDER, radius=radius, length=0.004, rgbaColor=FLOOR_COLOR)
    p.createMultiBody(0, -1, disc, center.tolist(), quaternion(turn).tolist())


def _camera(model: ObjectModel, palm: Array, azimuth: float) -> tuple[list[float], list[float]]:
    p = bullet()
    up = model.up
    side = np.eye(3)[int(np.argmin(np.abs(up)))]
    side = np.cross(up, side) / np.linalg.norm(np.cross(up, side))
    angle = np.radians(azimuth)
    direction = np.cos(angle) * side + np.sin(angle) * np.cross(up, side) + 0.45 * up
    target = (model.center_of_mass + palm) / 2 - 0.06 * up
    reach = np.linalg.norm(model.center_of_mass - palm) + np.ptp(model.surface.vertices, axis=0).max()
    eye = target + direction / np.linalg.norm(direction) * (0.3 + 0.9 * reach)
    view = p.computeViewMatrix(eye.tolist(), target.tolist(), up.tolist())
    return view, p.computeProjectionMatrixFOV(40, 1, 0.02, 5)


def _obj(mesh: Mesh) -> str:
    lines = ["v {:.7f} {:.7f} {:.7f}".format(*v) for v in mesh.vertices]
    lines += ["f {} {} {}".format(*(f + 1)) for f in mesh.faces]
    return "\n".join(lines) + "\n"
