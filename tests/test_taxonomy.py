"""The six grasp types: within limits, true to the hand's kinematics."""

import numpy as np
import pytest

from simeval.errors import SettingError
from simeval.hand import load_hand
from simeval.metrics.penetration import self_penetration
from simeval.taxonomy import GRASP_TYPES, GraspType, grasp_type

HAND = load_hand()
TYPES = pytest.mark.parametrize("kind", GRASP_TYPES.values(), ids=GRASP_TYPES)


def ends(joints: np.ndarray) -> dict[str, np.ndarray]:
    """End of each capsule (3,) in the palm frame, by link."""
    names = [HAND.link_names[p.link] for p in HAND.primitives if p.kind == "capsule"]
    return dict(zip(names, HAND.capsule_segments(joints)[1], strict=True))


def test_the_six_types_of_the_semg_data() -> None:
    assert list(GRASP_TYPES) == ["cylindrical", "planar", "spherical", "tip", "lateral", "hook"]
    assert [k.label for k in GRASP_TYPES.values()] == ["cyl", "palm", "spher", "tip", "lat", "hook"]
    assert grasp_type("tip") is GRASP_TYPES["tip"]
    with pytest.raises(SettingError, match=r"unknown grasp type 'sphere'.*Did you mean 'spherical'"):
        grasp_type("sphere")


@TYPES
def test_postures_are_postures(kind: GraspType) -> None:
    for posture in (kind.preshape, kind.posture):
        assert posture.shape == (22,)
        assert not posture.flags.writeable
        assert HAND.clip(posture)[1].max() == 0
        assert self_penetration(HAND, *HAND.primitive_transforms(posture)) < 0.001
    assert set(kind.contact_links) <= set(HAND.link_names)
    assert len(set(kind.contact_links)) == len(kind.contact_links)
    assert kind.source


@TYPES
def test_closing_brings_thumb_and_fingers_together_where_the_thumb_opposes(kind: GraspType) -> None:
    opened, closed = ends(kind.preshape), ends(kind.posture)
    gaps = [np.linalg.norm(e["thdistal"] - e["ffdistal"]) for e in (opened, closed)]
    if kind.thumb_opposed:
        assert gaps[1] < 0.65 * gaps[0]
        assert closed["thdistal"][1] < -0.05  # in front of the palm
        assert "thdistal" in kind.contact_links
    else:
        assert closed["thdistal"][1] > -0.06  # beside it


def test_what_tells_the_types_apart() -> None:
    closed = {name: ends(kind.posture) for name, kind in GRASP_TYPES.items()}
    tip = closed["tip"]
    assert np.linalg.norm(tip["thdistal"] - (tip["ffdistal"] + tip["mfdistal"]) / 2) < 0.035
    assert tip["rfdistal"][2] > 0.15  # the other two fingers stay away
    lateral = closed["lateral"]
    assert lateral["thdistal"][0] > lateral["ffmiddle"][0] + 0.015  # thumb on the index finger's outer side
    spread = {n: e["ffdistal"][0] - e["lfdistal"][0] for n, e in closed.items()}
    assert max(spread, key=lambda n: spread[n]) == "spherical"
    bend = {n: GRASP_TYPES[n].posture[[2, 6, 10, 15]].mean() for n in GRASP_TYPES}  # PIP joints
    assert min(bend, key=lambda n: bend[n]) == "planar"
    assert GRASP_TYPES["hook"].posture[19] == GRASP_TYPES["hook"].preshape[19]  # its thumb does nothing
