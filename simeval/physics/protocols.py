"""The two protocols, each a plain function from a world with the hand at its start to a Verdict."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from simeval.grasp import Array
from simeval.physics.closing import Plan
from simeval.physics.settings import GRAVITY
from simeval.physics.world import State, World, tilt
from simeval.records import NAN, Outcome

SLIP_LIMIT = 0.05
"""Displacement relative to the palm [m] from which a grasp has slipped."""
TILT_LIMIT = math.radians(30)
"""Rotation relative to the palm [rad] from which a lifted object has slipped."""

CLOSE_TIME, SQUEEZE_TIME = 0.5, 0.3  # s, lift: pregrasp to grasp, grasp to squeeze
LIFT_HEIGHT, LIFT_TIME = 0.2, 1.0  # m, s
SHAKE_UP, SHAKE_SIDE = 0.06, 0.03  # m, amplitude along up and sideways: 2.2 g and 1.1 g at the peak
SHAKE_HZ, SHAKE_CYCLES = 3.0, 2
# A shake that a tray passes says nothing about a grasp. With ±30 mm along every axis a flat hand that merely carries
# the object lifted 33 % (n = 60, embedded objects), with ±60 mm upwards 0 %: there the palm falls away faster than
# the object can follow. Released grasps, which push from several sides, lift as often with either.
HOLD_TIME = 0.5  # s
SIX_SQUEEZE_TIME, SIX_DIRECTION_TIME = 0.25, 1.0  # s
CHECK_TIME = 0.05  # s between looks at the object while it is lifted
REST_TIME = 0.025  # s between looks at the object while a direction acts
REST_SHIFT = 0.00025  # m in one REST_TIME: slower than this is at rest
REST_LOOKS = 2  # looks at a direction before the object may be called at rest
# Chosen on 234 released grasps with every direction simulated for its whole second: of 1,400 directions 2 that this
# calls at rest are lost later, the same two as with looks twice as far apart, for 27 % fewer steps.


@dataclass(slots=True)
class Verdict:
    """What a protocol saw. Field meanings as in TrialRecord."""

    outcome: Outcome
    reason: str = ""
    lift_m: float = NAN
    slip_m: float = NAN
    tilt_rad: float = NAN
    closing_shift_m: float = NAN
    directions_held: float = NAN
    pushes: dict[int, Array] = field(default_factory=dict)  # link (−1 is the palm) -> (3,) N, squeeze complete
    held: tuple[State, Array] | None = None  # object pose and joints when the squeeze was complete


class UnstableError(Exception):
    """The simulation left the range in which it means anything."""


Watch = Callable[[World], None]
"""Called at every look at the object; used for pictures."""


def checked_state(world: World) -> State:
    """Object pose; raises UnstableError on NaN, > 20 m/s or > 1 m from where it started."""
    state = world.state()
    speed = world.speed()
    if not (np.isfinite(state.position).all() and math.isfinite(speed)):
        raise UnstableError("object pose is NaN")
    away = float(np.linalg.norm(state.position - world.home))
    if speed > 20 or away > 1:
        raise UnstableError(f"object at {speed:.1f} m/s, {away:.2f} m from where it started")
    return state


def lift(world: World, plan: Plan, up: Array, watch: Watch | None = None) -> Verdict:
    """Close on the object as it stands, squeeze, take the stand away, raise, shake along 3 axes, hold.

    Success: displaced < 5 cm and < 30° relative to the palm ever since the stand went, still in contact.
    """
    down = -GRAVITY * np.asarray(up, dtype=float)
    world.set_gravity(down)
    first = checked_state(world)
    world.place_stand()
    _move(world, plan.start, plan.grasp, CLOSE_TIME, watch)
    _move(world, plan.grasp, plan.squeeze, SQUEEZE_TIME, watch)
    world.remove_stand()
    reference = checked_state(world)
    verdict = Verdict(Outcome.LIFTED, pushes=world.pushes(), held=(reference, world.joints()))
    verdict.closing_shift_m = _distance(reference, first)
    if not verdict.pushes:
        verdict.outcome = Outcome.NO_CONTACT
        return verdict
    verdict.slip_m = verdict.tilt_rad = 0.0
    for k, acceleration in enumerate(palm_acceleration(world.physics.timestep, up)):
        world.set_gravity(down - acceleration)
        world.step()
        if k % _steps(world, CHECK_TIME) == 0 and _lost(world, reference, verdict, watch):
            break
    final = checked_state(world)
    lost = _lost(world, reference, verdict, watch)
    if not lost:
        verdict.lift_m = LIFT_HEIGHT + float((final.position - first.position) @ up)
    if not _settled_contact(world):
        verdict.outcome = Outcome.DROPPED
    elif lost:
        verdict.outcome = Outcome.SLIPPED
    return verdict


def six_direction(world: World, plan: Plan, watch: Watch | None = None, all_directions: bool = True) -> Verdict:
    """Squeeze at the grasp without gravity, then 1 g along ±x ±y ±z, each from the same squeezed state.

    A direction holds with < 5 cm displacement throughout and at least one contact at its end; success is all six.
    With `all_directions` false the test ends at the first that doesn't hold (directions_held counts up to there).
    """
    world.set_gravity((0, 0, 0))
    first = checked_state(world)
    _move(world, plan.start, plan.squeeze, SIX_SQUEEZE_TIME, watch)
    reference = checked_state(world)
    verdict = Verdict(Outcome.LIFTED, pushes=world.pushes(), held=(reference, world.joints()))
    verdict.closing_shift_m = _distance(reference, first)
    verdict.directions_held = 0
    if not verdict.pushes:
        verdict.outcome = Outcome.NO_CONTACT
        return verdict
    verdict.slip_m = verdict.tilt_rad = 0.0
    squeezed = world.save()
    failures: list[Outcome] = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            world.restore(squeezed)
            world.set_gravity(sign * GRAVITY * np.eye(3)[axis])
            failure = _hold_direction(world, reference, verdict, watch)
            if failure is None:
                verdict.directions_held += 1
                continue
            failures.append(failure)
            if not all_directions:
                break
        if failures and not all_directions:
            break
    if failures:
        verdict.outcome = Outcome.DROPPED if Outcome.DROPPED in failures else Outcome.SLIPPED
    return verdict


def palm_acceleration(timestep: float, up: Array) -> Array:
    """Acceleration (T, 3) m/s² of the palm after the stand went: minimum-jerk lift, three shakes, hold.

    Second differences of the positions, so that the discrete motion ends exactly where and as it should. A shake is
    A (1 − cos 2πft) over whole cycles: ±A about its middle, at rest at both ends, never above A (2πf)².
    """
    times = np.arange(0, LIFT_TIME, timestep) / LIFT_TIME
    rise = LIFT_HEIGHT * _ease(np.append(times, 1.0))
    cycle = 1 / SHAKE_HZ
    t = np.linspace(0, SHAKE_CYCLES * cycle, round(SHAKE_CYCLES * cycle / timestep) + 1)
    shake = _second_difference(1 - np.cos(2 * np.pi * SHAKE_HZ * t), timestep)
    amplitudes = (SHAKE_UP, SHAKE_SIDE, SHAKE_SIDE)
    hold = np.zeros(round(HOLD_TIME / timestep))
    parts = [_second_difference(rise, timestep)[:, None] * up]
    parts += [shake[:, None] * a * axis for a, axis in zip(amplitudes, shake_axes(up), strict=True)]
    return np.concatenate([*parts, hold[:, None] * up])


def palm_rise(time: float) -> float:
    """How far [m] the palm has risen, `time` [s] after the fingers began to close; shakes left out."""
    share = (time - CLOSE_TIME - SQUEEZE_TIME) / LIFT_TIME
    return LIFT_HEIGHT * float(_ease(np.clip(share, 0, 1)))


def shake_axes(up: Array) -> tuple[Array, Array, Array]:
    """Shake directions: along `up` and along two horizontal axes, fixed in the object frame."""
    side = np.eye(3)[int(np.argmin(np.abs(up)))]
    side = side - (side @ up) * up
    side /= np.linalg.norm(side)
    return np.asarray(up, dtype=float), side, np.cross(up, side)


def _ease(s: Array) -> Array:
    """Minimum-jerk step from 0 to 1 (Flash & Hogan 1985)."""
    return s**3 * (10 - 15 * s + 6 * s**2)


def _second_difference(x: Array, timestep: float) -> Array:
    padded = np.concatenate([[x[0]], x, [x[-1]]])
    return np.diff(padded, 2) / timestep**2


def _move(world: World, a: Array, b: Array, duration: float, watch: Watch | None) -> None:
    """Lead the joint targets from a to b along a straight line."""
    steps = _steps(world, duration)
    look = _steps(world, CHECK_TIME)
    for k in range(steps):
        world.set_targets(a + (k + 1) / steps * (b - a))
        world.step()
        if watch and k % look == 0:
            watch(world)


def _hold_direction(world: World, reference: State, verdict: Verdict, watch: Watch | None) -> Outcome | None:
    """Let one gravity direction act; return None when the object is held."""
    look = _steps(world, REST_TIME)
    last = reference
    for k in range(round(SIX_DIRECTION_TIME / REST_TIME)):
        world.step(look)
        state = checked_state(world)
        if watch:
            watch(world)
        shift = _distance(state, reference)
        verdict.slip_m = max(verdict.slip_m, shift)
        verdict.tilt_rad = max(verdict.tilt_rad, tilt(state.quaternion, reference.quaternion))
        if shift >= SLIP_LIMIT:
            return Outcome.SLIPPED if _settled_contact(world) else Outcome.DROPPED
        rested = k + 1 >= REST_LOOKS and _distance(state, last) < REST_SHIFT
        if world.physics.stop_early and rested and shift < SLIP_LIMIT / 2:
            break
        last = state
    return None if world.touching_links() else Outcome.DROPPED


def _lost(world: World, reference: State, verdict: Verdict, watch: Watch | None) -> bool:
    state = checked_state(world)
    if watch:
        watch(world)
    verdict.slip_m = max(verdict.slip_m, _distance(state, reference))
    verdict.tilt_rad = max(verdict.tilt_rad, tilt(state.quaternion, reference.quaternion))
    return verdict.slip_m >= SLIP_LIMIT or verdict.tilt_rad >= TILT_LIMIT


def _settled_contact(world: World) -> bool:
    """Whether anything touches the object in the next CHECK_TIME: one step without a contact is not a drop."""
    for _ in range(_steps(world, CHECK_TIME)):
        if world.touching_links():
            return True
        world.step()
    return False


def _distance(a: State, b: State) -> float:
    return float(np.linalg.norm(a.position - b.position))


def _steps(world: World, duration: float) -> int:
    return max(1, round(duration / world.physics.timestep))
