"""Forward kinematics of some fingers of many hands, a level of links at a time: less overhead than link by link."""

import sys
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from simeval.grasp import JOINT_COUNT
from simeval.hand import FINGERS, LINK_COUNT, ArrayT, _constants, load_hand


class _Chains(NamedTuple):
    """The links of some fingers: the first of each, then those that these carry, and so on, in the fingers' order."""

    joints: Any  # (L,) that carry the links
    row: Any  # (23,) where a link stands among palm and links
    sizes: tuple[int, ...]  # of the levels
    constant: Any  # (L, 3, 3), and of
    sine: Any  # the sine and
    cosine: Any  # the cosine of its angle: the terms of a joint's rotation (Rodrigues' formula)
    origin: Any  # (L, 3, 1) m
    palm: Any  # (3, 3), the identity


def place_spheres(joints: ArrayT, link: Any, center: ArrayT, fingers: tuple[str, ...] = tuple(FINGERS)) -> ArrayT:
    """Centres (N, S, 3) [m] of spheres in the palm frame.

    Args:
        joints: (N, 22) rad, NumPy array or torch tensor.
        link: (S,) that carry the spheres: the palm, or of the fingers.
        center: (S, 3) m, in the link's frame.
        fingers: some of `FINGERS`, in their order.

    Returns:
        (N, S, 3) m, the same bits as by `HandModel.link_transforms`, but gradients add up in another order.
    """
    q: Any = joints
    xp: Any = np if isinstance(joints, np.ndarray) else sys.modules["torch"]
    own, row, sizes, constant, sine, cosine, origin, palm = _chains(fingers, q.dtype, str(getattr(q, "device", "")))
    angle = q[:, own, None, None]
    local = constant + xp.sin(angle) * sine + xp.cos(angle) * cosine  # (N, L, 3, 3)
    turns, shifts = [xp.broadcast_to(palm, (len(q), 1, 3, 3))], [xp.broadcast_to(0 * palm[0], (len(q), 1, 3))]
    turn, shift = turns[0], shifts[0]
    start = 0
    for count in sizes:
        some = slice(start, start + count)
        if start:  # the last of the level before carry these, for longer fingers come after shorter ones
            turn, shift = turn[:, -count:], shift[:, -count:]
            shift = shift + (turn @ origin[some])[..., 0]
            turn = turn @ local[:, some]
        else:
            turn, shift = local[:, some], xp.broadcast_to(origin[some, :, 0], (len(q), count, 3))
        turns.append(turn)
        shifts.append(shift)
        start += count
    of = row[link]
    turned = (xp.concatenate(turns, 1)[:, of] @ center[:, :, None])[..., 0]
    return turned + xp.concatenate(shifts, 1)[:, of]


@cache
def _chains(fingers: tuple[str, ...], dtype: Any, device: str) -> _Chains:
    chains = [range(JOINT_COUNT)[FINGERS[name]] for name in fingers]
    levels = [[chain[k] for chain in chains if k < len(chain)] for k in range(max(map(len, chains), default=0))]
    joints = np.array([joint for level in levels for joint in level], dtype=np.intp)
    row = np.zeros(LINK_COUNT, dtype=np.intp)
    row[joints + 1] = 1 + np.arange(len(joints))
    sizes = tuple(map(len, levels))
    a, b, c, origin, palm = _constants(load_hand(), dtype, device)
    if isinstance(dtype, np.dtype):
        return _Chains(joints, row, sizes, a[joints], b[joints], c[joints], origin[joints, :, None], palm)
    torch = sys.modules["torch"]
    with torch.inference_mode(False):  # what is kept must not be made in inference mode: it couldn't train later
        own, rows = (torch.tensor(index, device=device) for index in (joints, row))
        return _Chains(own, rows, sizes, a[own], b[own], c[own], origin[own, :, None], palm)
