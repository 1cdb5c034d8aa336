"""The learned predictor: its features, training on what held and what didn't, and its file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import simeval.generators.predictor.train as training
from simeval.bank import GraspBank, load_bank, write_bank
from simeval.errors import DataError, SettingError
from simeval.generators.holding import SHIFTS, hold_scores, nearby_contacts, robust_scores
from simeval.generators.predictor.features import COUNT, features, robust_of
from simeval.generators.predictor.model import WEIGHTS, load_predictor
from simeval.generators.predictor.train import REPORT, auc, train_on
from simeval.generators.ranking import ROBUST_WEIGHT, ranker
from simeval.grasp import GraspBatch
from simeval.objects import ObjectLibrary, load_embedded
from simeval.physics.closing import find_contacts
from simeval.taxonomy import grasp_type


def write(path: Path, bank: GraspBank, rows: NDArray[np.intp], grasps: GraspBatch) -> GraspBank:
    codes, types = bank.codes[rows].tolist(), bank.types[rows].tolist()
    write_bank(path, codes, bank.scales[rows].tolist(), types, grasps.to_vectors())
    return load_bank(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[GraspBank, Path]:
    """Some of the embedded grasps, and the same 12 mm off: those hold no more."""
    folder, bank = tmp_path_factory.mktemp("sets"), load_bank("embedded")
    rows = np.flatnonzero(np.isin(bank.codes, np.unique(bank.codes)[::12]))[:90]
    own = bank.grasps[rows]
    back = own.with_(translation=own.translation + 0.012 * own.rotation[:, :, 1])
    write(folder / "failed.parquet", bank, rows, back)
    return write(folder / "held.parquet", bank, rows, own), folder / "failed.parquet"


def test_the_blend_is_robust_and_predicted(files: tuple[GraspBank, Path]):
    bank = files[0]
    code, scale = bank.objects()[0]
    model, rows = load_embedded(code, scale), bank.rows(code, scale)
    kind, grasps = grasp_type(str(bank.types[rows[0]])), bank.grasps[rows]
    robust = robust_scores(model, kind, grasps)
    np.testing.assert_allclose(robust_of(features(model, kind, grasps)), robust, atol=1e-9)
    both = ranker("blend").scores(model, kind, grasps)
    np.testing.assert_allclose(both - ROBUST_WEIGHT * robust, load_predictor().scores(model, kind, grasps), atol=1e-5)


def test_contacts_at_some_wrists_are_those_that_the_executor_finds_at_each(files: tuple[GraspBank, Path]):
    bank = files[0]
    shifts = np.concatenate([SHIFTS, [[0.5, 0, 0]]])
    for code, scale in bank.objects()[::20]:
        model = load_embedded(code, scale)
        for i in bank.rows(code, scale)[:2]:
            rotation, joints = bank.grasps.rotation[i], bank.grasps.joints[i]
            wrists = bank.grasps.translation[i] + shifts
            found = nearby_contacts(model, rotation, wrists, joints)
            assert len(found[0]) > 1
            assert found[-1] == []
            for own, wrist in zip(found, wrists, strict=True):
                expected = find_contacts(model, rotation, wrist, joints)
                assert [c.link for c in own] == [c.link for c in expected]
                for a, b in zip(own, expected, strict=True):
                    np.testing.assert_allclose([a.point, a.push], [b.point, b.push], atol=1e-8)


@pytest.fixture(scope="module")
def trained(files: tuple[GraspBank, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predictor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "STEPS", 150)
        train_on(files[0], "", {"failed": str(files[1])}, out)
    return out


def test_it_tells_what_holds_on_objects_it_has_not_seen(trained: Path, files: tuple[GraspBank, Path]):
    report = json.loads((trained / REPORT).read_text())
    assert np.mean([found["auc"] for found in report.values()]) > 0.85
    assert sum(found["candidates"] for found in report.values()) == 2 * len(files[0])
    predictor, (bank, failed) = load_predictor(trained / WEIGHTS), files
    code, scale = bank.objects()[0]
    model, worse = load_embedded(code, scale), load_bank(failed)
    kind = grasp_type(str(bank.types[bank.rows(code, scale)[0]]))
    better = predictor.scores(model, kind, bank.for_object(code, scale, kind.name))
    assert better.mean() > predictor.scores(model, kind, worse.for_object(code, scale, kind.name)).mean()
    assert predictor.scores(model, kind, GraspBatch.empty()).shape == (0,)


def test_features_are_of_each_grasp_alone(files: tuple[GraspBank, Path]):
    bank = files[0]
    code, scale = bank.objects()[0]
    model = load_embedded(code, scale)
    rows = bank.rows(code, scale)
    kind = grasp_type(str(bank.types[rows[0]]))
    grasps = bank.grasps[rows]
    found = features(model, kind, grasps)
    assert found.shape == (len(rows), COUNT)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1:2], features(model, kind, grasps[[1]]), atol=1e-9)
    np.testing.assert_allclose(
        found[:, 1] - found[:, 0] - 0.5 * (1 - found[:, 3]), hold_scores(model, kind, grasps), atol=1e-9
    )
    far = features(model, kind, grasps.with_(translation=grasps.translation + 1.0))
    assert (far[:, 4] == 0).all()


def test_a_stopped_training_keeps_its_features(trained: Path, files: tuple[GraspBank, Path], tmp_path: Path):
    (tmp_path / training.FEATURES).write_bytes((trained / training.FEATURES).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "STEPS", 150)
        patch.setattr(training, "features", lambda *_: pytest.fail("they are there"))
        train_on(files[0], "", {"failed": str(files[1])}, tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_features_of_other_grasps_of_the_same_objects_are_computed_anew(
    trained: Path, files: tuple[GraspBank, Path], tmp_path: Path
):
    (tmp_path / training.FEATURES).write_bytes((trained / training.FEATURES).read_bytes())
    bank, asked = files[0], []

    def count(model, kind, grasps):
        asked.append(len(grasps))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "features", count)
        moved = replace(bank, grasps=bank.grasps.with_(translation=bank.grasps.translation + 0.001))
        with pytest.raises(KeyboardInterrupt):
            train_on(moved, "", {"failed": str(files[1])}, tmp_path)
    assert asked
    (tmp_path / training.FEATURES).write_bytes(b"torn")
    with pytest.raises(DataError, match="delete it"):
        train_on(bank, "", {"failed": str(files[1])}, tmp_path)


def test_bad_input_is_refused(files: tuple[GraspBank, Path], trained: Path, tmp_path: Path):
    bank, failed = files
    for preset, changes in (("paper", {"failed": str(failed)}), ("", {}), ("", {"failed": str(failed), "x": "1"})):
        with pytest.raises(SettingError, match="failed=FILE"):
            train_on(bank, preset, changes, tmp_path)
    with pytest.raises(SettingError, match="cpu alone"):
        train_on(bank, "", {"failed": str(failed)}, tmp_path, device="cuda")
    rows = np.flatnonzero(bank.codes == bank.codes[0])
    one = write(tmp_path / "one.parquet", bank, rows, bank.grasps[rows])
    with pytest.raises(DataError, match="are of one object"):
        train_on(one, "", {"failed": str(tmp_path / "one.parquet")}, tmp_path)
    with pytest.raises(DataError, match="no such file"):
        load_predictor(tmp_path / "nothing.safetensors")
    weights = (trained / WEIGHTS).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(weights[:500])
    with pytest.raises(DataError, match="can't be read"):
        load_predictor(tmp_path / "cut.safetensors")
    (tmp_path / "old.safetensors").write_bytes(weights.replace(b'features\\": 1', b'features\\": 0'))
    with pytest.raises(DataError, match="train it again"):
        load_predictor(tmp_path / "old.safetensors")
    library = ObjectLibrary()
    if library.data is not None:
        held_out = tmp_path / "test.parquet"
        write_bank(held_out, [library.dexgraspnet.codes("test")[0]], [0.1], ["tip"], np.zeros((1, 28)))
        with pytest.raises(DataError, match="may be trained on"):
            train_on(load_bank(held_out), "", {"failed": str(failed)}, tmp_path, library.data)


def test_area_under_the_curve():
    score = np.array([0.1, 0.4, 0.35, 0.8])
    assert auc(score, np.array([False, False, True, True])) == 0.75
    assert np.isnan(auc(score, np.ones(4, dtype=bool)))
