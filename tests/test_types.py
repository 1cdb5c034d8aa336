"""Type measures: by 28 numbers, by joints, by contacts; their agreement, their rows in tables, and labelled banks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simeval.bank import load_bank, write_bank
from simeval.cli import main
from simeval.dataset.label import label, write_labelled
from simeval.errors import DataError, SettingError
from simeval.grasp import GraspBatch, euler_to_matrix
from simeval.hand import FINGERS, load_hand
from simeval.metrics.diversity import diversity, wrist_directions
from simeval.metrics.types import (
    PAPER_CENTER,
    PAPER_TYPES,
    achieved_type,
    admitted_types,
    chance_fidelity,
    commanded_distances,
    commanded_types,
    confusion,
    index_side,
    kappa,
    paper_distances,
    paper_references,
    paper_types,
    thumb_opposition,
)
from simeval.objects import load_embedded, write_grasps
from simeval.physics.execute import blank_record, execute
from simeval.physics.settings import Physics
from simeval.records import Condition, Outcome, Trial, TrialRecord
from simeval.report.summary import type_blind
from simeval.report.tables import render, summarise
from simeval.store import Run
from simeval.taxonomy import CLOSING_REACH, GRASP_TYPES, GraspType

HAND = load_hand()
TYPES = pytest.mark.parametrize("kind", GRASP_TYPES.values(), ids=GRASP_TYPES)
X, Y, Z = np.eye(3)
Capture = pytest.CaptureFixture[str]


def closed(kind: GraspType, share: float) -> np.ndarray:
    return HAND.clip(kind.preshape + share * (kind.posture - kind.preshape))[0]


# By the joints


@TYPES
@pytest.mark.parametrize("share", [0.3, 0.6, 1.0, 1.5, CLOSING_REACH])
def test_a_type_is_itself_however_far_it_has_closed(kind: GraspType, share: float) -> None:
    joints = closed(kind, share)
    distances = commanded_distances(joints[None])[0]
    assert commanded_types(joints[None]).tolist() == [kind.name]
    assert distances[list(GRASP_TYPES).index(kind.name)] < 0.01
    assert np.sort(distances)[1] > 0.03  # and no other by a hair


@TYPES
def test_a_type_survives_joint_noise_and_a_thumb_that_stopped_early(kind: GraspType) -> None:
    stopped = closed(kind, 2.0)
    stopped[FINGERS["TH"]] = closed(kind, 0.3)[FINGERS["TH"]]
    noisy = closed(kind, 1.0) + np.random.default_rng(1).normal(scale=0.05, size=(50, 22))
    assert set(commanded_types(np.vstack([stopped, noisy]))) == {kind.name}


def test_commanded_distance_is_over_the_joints_ranges() -> None:
    posture = GRASP_TYPES["lateral"].posture.copy()
    posture[0] += 0.1  # FFJ3: no type's path goes along it
    expected = 0.1 / (HAND.upper - HAND.lower)[0] / np.sqrt(22)
    assert commanded_distances(posture[None])[0, 4] == pytest.approx(expected, abs=1e-3)
    many = np.tile(posture, (600, 1))  # more than one chunk
    np.testing.assert_array_equal(commanded_distances(many)[[0, -1]], commanded_distances(many[:2]))


def test_commanded_types_of_nothing_and_of_what_is_no_grasp() -> None:
    assert commanded_types(np.zeros((0, 22))).shape == (0,)
    bad = np.tile(GRASP_TYPES["tip"].posture, (3, 1))
    bad[0, 3], bad[1, 4] = np.nan, np.inf
    assert commanded_types(bad).tolist() == ["", "", "tip"]
    far = np.full((1, 22), 0.5)
    least = commanded_distances(far).min()
    assert commanded_types(far, least * 0.99).tolist() == [""]
    assert commanded_types(far, least * 1.01).tolist() != [""]
    with pytest.raises(SettingError, match="above 0, found -1"):
        commanded_types(far, -1)


# By what holds the object


def test_opposition_is_the_cosine_between_the_thumb_and_the_rest() -> None:
    assert thumb_opposition({"thdistal": 3 * X, "ffdistal": -X, "mfdistal": -9 * X}) == pytest.approx(-1)
    assert thumb_opposition({"thdistal": X, "ffdistal": Y}) == pytest.approx(0)
    skew = {"thdistal": X, "ffdistal": -X, "palm": Y}  # forces don't count, links do
    assert thumb_opposition(skew) == thumb_opposition({**skew, "ffdistal": -50 * X}) == pytest.approx(-(0.5**0.5))
    for away in ({}, {"ffdistal": X}, {"thdistal": X}, {"thproximal": X, "ffdistal": -X}):  # its base is palm
        assert np.isnan(thumb_opposition(away))


def test_index_side_is_the_push_towards_the_thumb() -> None:
    assert index_side({"ffmiddle": X, "ffproximal": 5 * X}) == pytest.approx(1)
    assert index_side({"ffmiddle": X + Y}) == pytest.approx(0.5**0.5)
    assert index_side({"ffdistal": Y - Z, "mfdistal": X}) == pytest.approx(0)
    assert np.isnan(index_side({"mfdistal": X}))


@pytest.mark.parametrize(
    ("contacts", "opposition", "side", "expected"),
    [
        ("palm ffproximal ffmiddle mfproximal thdistal", -0.8, 0.0, {"cylindrical", "spherical"}),
        ("ffdistal mfdistal ffmiddle thdistal", -0.8, 0.0, {"cylindrical", "spherical", "planar", "tip"}),
        ("ffdistal mfdistal rfdistal lfdistal thdistal", -0.9, 0.0, {"planar"}),
        ("ffdistal mfdistal thdistal", -0.9, 0.0, {"planar", "tip"}),
        ("ffdistal thdistal", -0.9, 0.0, {"tip"}),
        ("ffdistal thdistal palm", -0.9, 0.0, set()),
        ("ffmiddle thdistal", -0.9, 0.9, {"lateral"}),
        ("ffdistal thdistal", -0.9, 0.9, {"lateral"}),  # a tip that pushes with its side is none
        ("ffmiddle thdistal", 0.3, 0.9, {"lateral", "hook"}),
        ("ffmiddle mfmiddle palm", np.nan, 0.0, {"hook"}),
        ("ffmiddle mfmiddle thproximal", np.nan, 0.9, {"hook"}),
        ("ffmiddle mfmiddle thdistal", 0.2, 0.0, {"hook"}),
        ("palm thdistal", -0.9, np.nan, set()),
        ("", np.nan, np.nan, set()),
    ],
)
def test_contacts_admit_types(contacts: str, opposition: float, side: float, expected: set[str]) -> None:
    assert set(admitted_types(contacts.split(), opposition, side)) == expected


@TYPES
def test_what_a_type_holds_with_admits_it(kind: GraspType) -> None:
    opposition = -0.9 if kind.thumb_opposed or kind.name == "lateral" else np.nan
    side = 0.95 if kind.name == "lateral" else 0.0
    assert achieved_type(kind.contact_links, opposition, side, kind.posture) == kind.name


def test_joints_decide_only_between_what_contacts_admit() -> None:
    power = ["palm", "ffmiddle", "mfmiddle", "thdistal"]
    for name in ("cylindrical", "spherical"):
        assert achieved_type(power, -0.9, 0.0, GRASP_TYPES[name].posture) == name
    assert achieved_type(power, -0.9, 0.0, GRASP_TYPES["tip"].posture) in ("cylindrical", "spherical")
    assert achieved_type(power[:-1], np.nan, 0.0, GRASP_TYPES["cylindrical"].posture) == "hook"
    assert achieved_type([], np.nan, np.nan, GRASP_TYPES["cylindrical"].posture) == ""


def test_a_trial_records_what_held() -> None:
    bank = load_bank("embedded")
    row = int(np.flatnonzero(bank.types == "lateral")[0])
    model = load_embedded(str(bank.codes[row]))
    condition = Condition(model.code, 1.0, "lateral", 0, "six-direction-first", Physics().digest, 0)
    trial = Trial(condition, bank.grasps[row], model.digest)
    record = execute(trial, model, Physics())
    assert record.commanded_type == record.achieved_type == "lateral"
    assert record.index_side > 0.7  # so pushes point into the object, in the palm's frame
    assert record.thumb_opposition < -0.3
    assert {"thdistal"} < set(record.contacts.split(","))
    blank = blank_record(trial, Outcome.CRASHED, "")
    assert (blank.commanded_type, blank.achieved_type) == ("lateral", "")
    assert blank_record(replace(trial, grasp=None), Outcome.GENERATOR_FAILED, "").commanded_type == ""


# By the 28 numbers


def released() -> GraspBatch:
    """Sixty grasps, of which number 7 + i has, but for 0.01 rad, the posture of the i-th of `PAPER_TYPES`."""
    rng = np.random.default_rng(0)
    joints = rng.uniform(HAND.lower, HAND.upper, size=(60, 22))
    for i, name in enumerate(PAPER_TYPES):
        joints[7 + i] = GRASP_TYPES[name].posture + 0.01
    return GraspBatch(euler_to_matrix(rng.uniform(-1.5, 1.5, size=(60, 3))), rng.normal(size=(60, 3)), joints)


def test_paper_references_are_the_released_grasps_nearest_the_postures() -> None:
    vectors = released().to_vectors()
    for i, (name, reference) in enumerate(paper_references(released()).items()):
        assert name == PAPER_TYPES[i]
        np.testing.assert_array_equal(reference, vectors[7 + i])


def test_paper_references_without_data_are_postures_before_the_palm() -> None:
    for empty in (None, GraspBatch.empty()):
        for name, vector in paper_references(empty).items():
            np.testing.assert_array_equal(vector[:22], GRASP_TYPES[name].posture)
            grasp = GraspBatch.from_vectors(vector[None])
            np.testing.assert_allclose(grasp.rotation[0] @ PAPER_CENTER + grasp.translation[0], 0, atol=1e-15)


def test_paper_distance_counts_every_raw_number_alike() -> None:
    references = paper_references()
    base = references["planar"]
    moved = base + 2.0 * np.eye(28)[[0, 21, 22, 27]]  # a joint, the thumb, an Euler angle [rad], a translation [m]
    np.testing.assert_allclose(paper_distances(moved, references)[:, 1], 2.0)
    turned = base + np.outer([0, 1.4, 1.6], np.eye(28)[24])
    assert paper_types(turned, references).tolist() == ["planar", "planar", ""]
    assert paper_types(moved, references, 2.001).tolist() == ["planar"] * 4
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(SettingError, match="above 0"):
            paper_types(moved, references, bad)


# Agreement


def test_kappa_and_chance_of_known_tables() -> None:
    assert kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)  # Cohen's kappa, the textbook example
    assert kappa(np.diag([3, 4])) == pytest.approx(1)
    assert kappa([[5, 5], [5, 5]]) == pytest.approx(0)
    assert np.isnan(kappa([[0, 0], [0, 0]]))
    assert np.isnan(kappa([[7, 0], [0, 0]]))
    np.testing.assert_array_equal(confusion(["a", "a", "b"], ["b", "b", "b"], ["a", "b"]), [[0, 2], [0, 1]])
    assert chance_fidelity(["a", "a", "b", "b"], ["a", "a", "b", ""]) == pytest.approx(0.5 * 0.5 + 0.5 * 0.25)
    assert np.isnan(chance_fidelity([], []))


# In tables


def made(asked: str, commanded: str, achieved: str, index: int) -> TrialRecord:
    return TrialRecord(
        f"{index:016x}", "c", f"object-{index % 10}", 0.1, asked, index, "lift", "p", 0, Outcome.LIFTED,
        commanded_type=commanded, achieved_type=achieved,
    )  # fmt: skip


def run_of(*kinds: tuple[str, str, str]) -> Run:
    return Run({"generator": "g", "suite": "s"}, [made(*kind, i) for i, kind in enumerate(kinds)])


def test_fidelity_is_over_every_trial_that_asked_for_a_type() -> None:
    run = run_of(("tip", "tip", "tip"), ("tip", "tip", ""), ("hook", "tip", "hook"), ("hook", "", ""), ("", "tip", ""))
    rows = {r["metric"]: r for r in json.loads(render(summarise([run]), [], "json"))}
    found = {m: (rows[m]["value"], rows[m]["n"]) for m in rows if m.startswith("type_fidelity")}
    assert found == {"type_fidelity_commanded": (0.5, 4), "type_fidelity_achieved": (0.5, 4)}
    by_type = {r.group: r.value for r in summarise([run], "type") if r.metric == "type_fidelity_commanded"}
    assert by_type == {"hook": 0.0, "tip": 1.0}
    assert not any("type" in r.metric for r in summarise([run_of(("", "tip", "tip"))]))
    assert "| type commanded % | type achieved % |" in render(summarise([run]), [], "md")


def test_type_blind_rows_are_at_chance() -> None:
    names = list(GRASP_TYPES)
    run = run_of(*((names[i % 6], names[i % 6], names[i % 6]) for i in range(1200)))
    assert {r.value for r in summarise([run]) if r.metric.startswith("type")} == {1.0}
    rows = type_blind([run])
    assert [r.metric for r in rows] == ["type_fidelity_commanded", "type_fidelity_achieved"]
    assert {r.generator for r in rows} == {"g type-blind"}
    assert all(abs(r.value - 1 / 6) < 0.04 and r.n == 1200 for r in rows)
    assert rows == type_blind([Run(run.manifest, run.records[::-1])])
    assert rows != type_blind([run], seed=1)
    assert type_blind([run_of(("", "tip", "tip"))]) == []


# Labelled banks


def label_command(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        main(["dataset", "label", *arguments])
    return caught.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DexGraspNet's layout with the sixty grasps of `released`, and no other data."""
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    (tmp_path / "data" / "meshdata").mkdir(parents=True)
    (tmp_path / "data" / "dataset").mkdir()
    write_grasps(tmp_path / "data" / "dataset" / "core-a.npy", 0.1, released())
    return tmp_path / "data"


def test_label_command_filters_a_folder(folder: Path, tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "out.parquet"
    for given in ([str(folder / "dataset"), "--data", str(folder)], ["--data", str(folder)]):
        assert label_command(*given, "--threshold", "0.5", "--out", str(out)) == 0
        assert "3 of 60 grasps have a type (paper-28d, references: released)" in capfd.readouterr().out
        bank = load_bank(out)
        assert bank.types.tolist() == list(PAPER_TYPES)
        np.testing.assert_allclose(bank.grasps.to_vectors(), released()[7:10].to_vectors(), atol=1e-12)
        facts = {"measure": "paper-28d", "threshold": 0.5, "references": "released", "taxonomy": 1}
        assert bank.meta["labels"] == facts
        assert bank.data_kind == "real"


def test_label_round_trip_of_a_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    bank = load_bank("embedded")
    out, again = tmp_path / "out.parquet", tmp_path / "again.parquet"
    assert label_command("embedded", "--measure", "commanded", "--out", str(out)) == 0
    labelled = load_bank(out)
    assert labelled.types.tolist() == commanded_types(bank.grasps.joints).tolist()
    assert np.mean(labelled.types == bank.types) > 0.95
    assert labelled.data_kind == "embedded"
    assert labelled.meta["generator"] == bank.meta["generator"]
    assert labelled.shapes.keys() == bank.shapes.keys()
    assert label_command(str(out), "--measure", "commanded", "--out", str(again)) == 0
    assert load_bank(again).types.tolist() == labelled.types.tolist()
    assert label(bank, "paper-28d").references == "taxonomy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.parquet"], "no such file"),
        (["nowhere"], "unknown bank"),
        (["released"], "--data DIR"),
        (["embedded", "--measure", "paper"], "unknown measure 'paper'. Did you mean 'paper-28d'"),
        (["embedded", "--threshold", "0"], "above 0"),
        (["embedded", "--threshold", "nan"], "above 0"),
        (["embedded", "--threshold", "1e-9"], "larger --threshold"),
        (["embedded", "--out", "labels.csv"], ".parquet"),
        (["embedded", "--out", "nowhere/labels.parquet"], "no folder"),
    ],
)
def test_bad_label_input(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.delenv("SIMEVAL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "labels.parquet"]
    assert label_command(*arguments, *out) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not list(tmp_path.glob("*"))


def test_a_bank_without_shapes_keeps_none_and_nothing_labelled_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "bank.parquet"
    write_bank(file, ["b"], [1.0], [""], np.concatenate([GRASP_TYPES["tip"].posture + 0.01, np.zeros(6)])[None])
    bank = load_bank(file)
    write_labelled(tmp_path / "out.parquet", bank, label(bank, "commanded"))
    assert load_bank(tmp_path / "out.parquet").types.tolist() == ["tip"]
    assert not load_bank(tmp_path / "out.parquet").shapes
    nothing = label(bank, "commanded", 1e-9)
    assert nothing.counts.total() == 0
    with pytest.raises(DataError, match="none of the 1 grasps"):
        write_labelled(tmp_path / "out.parquet", bank, nothing)


def test_diversity_is_the_mean_over_pairs() -> None:
    turn = np.array([[0, 0, 0], [0, 0, 0.1], [0, 0, 0.3]])
    joints = np.zeros((3, 22))
    joints[2, 0] = (HAND.upper - HAND.lower)[0]
    grasps = GraspBatch(euler_to_matrix(turn), np.zeros((3, 3)), joints)
    found = diversity(grasps)
    assert found.pairs == 3
    np.testing.assert_allclose(found.rotation_deg, np.degrees((0.1 + 0.3 + 0.2) / 3), atol=1e-6)
    np.testing.assert_allclose(found.joints, 2 / 3 * np.sqrt(1 / 22))
    assert np.isnan(diversity(grasps[np.arange(1)]).rotation_deg)
    away = wrist_directions(grasps.with_(translation=np.eye(3) * 0.1), np.zeros(3), np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(away[1], [0, 0, 1], atol=1e-12)  # up is z
    np.testing.assert_allclose(np.linalg.norm(away, axis=1), 1)
