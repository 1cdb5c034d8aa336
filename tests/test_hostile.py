"""A thousand hostile grasps: each ends in a clear error before the run or in a recorded outcome."""

from collections import Counter

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from simeval.errors import GraspError
from simeval.grasp import JOINT_COUNT, GraspBatch
from simeval.objects import load_embedded
from simeval.physics.pool import Task, run_tasks
from simeval.physics.settings import Physics
from simeval.records import Condition, Outcome, Trial

COUNT = 1000


def hostile(rng, kind):
    """One grasp of a hostile kind; raises GraspError for those that can't even be built."""
    rotation = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()[None]
    translation = rng.normal(0, 0.1, (1, 3))
    joints = rng.uniform(-0.3, 1.5, (1, JOINT_COUNT))
    if kind == "nan":
        [rotation, translation, joints][rng.integers(3)].flat[0] = np.nan
    elif kind == "inf":
        [rotation, translation, joints][rng.integers(3)].flat[-1] = rng.choice([np.inf, -np.inf])
    elif kind == "beyond limits":
        joints = rng.uniform(-10, 10, (1, JOINT_COUNT))
    elif kind == "not orthonormal":
        rotation = rotation * rng.uniform(1.01, 3) if rng.random() < 0.5 else rng.normal(size=(1, 3, 3))
    elif kind == "deep inside":
        translation = rng.normal(0, 0.005, (1, 3))
    elif kind == "far away":
        translation, joints = 100 * rng.normal(size=(1, 3)), np.zeros((1, JOINT_COUNT))
    elif kind == "huge":
        translation = np.full((1, 3), 1e300)
    elif kind == "wrong shape":
        joints = rng.uniform(0, 1, (1, int(rng.choice([0, 1, 21, 23]))))
    elif kind == "text":
        return GraspBatch(rotation, translation, [["a"] * JOINT_COUNT])
    elif kind == "wild squeeze":
        return GraspBatch(rotation, translation, np.zeros((1, JOINT_COUNT)), squeeze=1e6 * joints)
    return GraspBatch(rotation, translation, joints)


KINDS = (
    "nan", "inf", "beyond limits", "not orthonormal", "deep inside", "far away", "huge", "wrong shape", "text",
    "wild squeeze",
)  # fmt: skip


def test_every_hostile_grasp_is_an_error_or_an_outcome():
    rng = np.random.default_rng(7)
    model, physics = load_embedded("embedded-mug-03"), Physics()
    refused, work = 0, []
    for index in range(COUNT):
        condition = Condition(model.code, 1.0, None, index, ("lift", "six-direction")[index % 2], physics.digest, 0)
        kind = KINDS[index % len(KINDS)]
        if kind in ("wrong shape", "text"):
            with pytest.raises(GraspError, match=r"shape|numeric"):
                hostile(rng, kind)
            refused += 1
            continue
        grasp = hostile(rng, kind)
        work.append(Task(Trial(condition, grasp, model.digest), model, physics))
    records = list(run_tasks(work, workers=2))
    assert refused == 2 * COUNT // len(KINDS)
    assert len(records) == COUNT - refused
    assert {r.index for r in records} == {t.trial.condition.index for t in work}
    outcomes = Counter(r.outcome for r in records)
    assert outcomes[Outcome.CRASHED] == outcomes[Outcome.TIMEOUT] == 0
    by_kind = {kind: {r.outcome for r in records if KINDS[r.index % len(KINDS)] == kind} for kind in KINDS}
    for kind in ("nan", "inf", "beyond limits", "not orthonormal", "huge", "wild squeeze"):
        assert by_kind[kind] == {Outcome.INVALID_GRASP}, (kind, by_kind[kind])
    assert by_kind["far away"] == {Outcome.NO_CONTACT}


@pytest.mark.parametrize("shape", [(2, 21), (22,), (1, 22, 1)])
def test_wrong_shapes_say_what_was_expected(shape):
    with pytest.raises(GraspError, match="expected"):
        GraspBatch(np.eye(3)[None], np.zeros((1, 3)), np.zeros(shape))
