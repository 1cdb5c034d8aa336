"""Every registered generator, what each of the built-in ones promises, and a stranger's plug-in."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from offline import install

from simeval.bank import GraspBank, load_bank, shape_of, write_bank
from simeval.errors import DataError, GraspError, SettingError
from simeval.generator import Generator, GraspRequest
from simeval.generators.closing import FINGER_NAMES, hand_spheres
from simeval.generators.fitting import BACK_OFFS, fit_all
from simeval.generators.floors import SCOOP_CENTER, SCOOP_PRESS
from simeval.generators.kinematics import place_spheres
from simeval.generators.likeness import Descriptor, Known, box, quarter_turn, up_frame
from simeval.generators.preshape import best_by_type
from simeval.generators.ranking import ranker
from simeval.generators.retrieval import Retrieval, transfer
from simeval.grasp import JOINT_COUNT, JOINT_NAMES, GraspBatch
from simeval.hand import load_hand
from simeval.metrics.penetration import measure
from simeval.objects import ObjectModel, load_embedded
from simeval.registry import generator_names, make_generator, settings_of
from simeval.taxonomy import GRASP_TYPES, GraspType

CODE, OTHERS = "embedded-cylinder-04", ("embedded-bottle-03", "embedded-jar-04", "embedded-block-04")
RANDOM = ("random", "scoop", "preshape", "energy", "diffusion", "diffusion-rt", "diffusion-pca")
QUICK = {"energy": {"tries": "4", "steps": "20", "copies": "2"}}
"""Settings that make a slow generator fast."""
PLUGIN = Path(__file__).parent / "plugin_package"


@pytest.fixture(scope="module")
def model() -> ObjectModel:
    return load_embedded(CODE)


@pytest.fixture(scope="module")
def bank_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grasps of four objects, one of them at two scales: those of `preshape`, two types each."""
    codes, scales, types, vectors, shapes = [], [], [], [], {}
    for code, scale in ((CODE, 1.0), (CODE, 1.2), *((c, 1.0) for c in OTHERS)):
        known = load_embedded(code, scale)
        shapes[code, scale] = shape_of(known)
        for kind in ("cylindrical", "planar"):
            grasps = make_generator("preshape").generate(GraspRequest(known, kind, 3, 1))
            vectors.append(grasps.to_vectors())
            codes += [code] * len(grasps)
            scales += [scale] * len(grasps)
            types += [kind] * len(grasps)
    path = tmp_path_factory.mktemp("bank") / "small.parquet"
    write_bank(path, codes, scales, types, np.concatenate(vectors), shapes, {"data_kind": "embedded"})
    return path


@pytest.fixture(scope="module")
def bank(bank_path: Path) -> GraspBank:
    return load_bank(bank_path)


def build(name: str, bank_path: Path, settings: Mapping[str, str] | None = None) -> Generator:
    given = {"bank": str(bank_path)} if "bank" in settings_of(name) else {}
    return make_generator(name, given | dict(settings or {}))


@pytest.mark.parametrize("name", generator_names())
def test_every_registered_generator_gives_grasps(name: str, model: ObjectModel, bank_path: Path) -> None:
    generator = build(name, bank_path)
    grasps = generator.generate(GraspRequest(model, None, 4, 7))
    assert 0 < len(grasps) <= 4
    assert grasps.joints.shape == (len(grasps), JOINT_COUNT)
    identity = np.broadcast_to(np.eye(3), grasps.rotation.shape)
    np.testing.assert_allclose(grasps.rotation @ grasps.rotation.swapaxes(1, 2), identity, atol=1e-9)
    assert (np.linalg.det(grasps.rotation) > 0).all()
    for value in (grasps.translation, grasps.joints, grasps.pregrasp, grasps.squeeze, grasps.score):
        assert value is None or np.isfinite(value).all()
    assert np.abs(grasps.translation).max() < 1
    for joints in (grasps.joints, grasps.pregrasp, grasps.squeeze):
        excess = 0.0 if joints is None else load_hand().clip(joints)[1].max()
        assert excess <= (0.7 if name in ("replay", "open-hand") else 1e-9)  # a bank's are as they are


@pytest.mark.parametrize("name", generator_names())
def test_the_request_alone_decides_the_grasps(name: str, model: ObjectModel, bank_path: Path) -> None:
    first, again = (build(name, bank_path, QUICK.get(name)).generate(GraspRequest(model, None, 3, 7)) for _ in range(2))
    for field in ("rotation", "translation", "joints"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    other = build(name, bank_path, QUICK.get(name)).generate(GraspRequest(model, None, 3, 8))
    if name in RANDOM:
        assert not np.array_equal(first.translation, other.translation)


@pytest.mark.parametrize("name", generator_names())
def test_no_more_than_asked_for(name: str, model: ObjectModel, bank_path: Path) -> None:
    assert len(build(name, bank_path, QUICK.get(name)).generate(GraspRequest(model, "cylindrical", 1, 0))) == 1


def test_replay_is_bit_for_bit(model: ObjectModel, bank_path: Path, bank: GraspBank) -> None:
    replay = build("replay", bank_path)
    known = bank.for_object(CODE, 1.0)
    got = replay.generate(GraspRequest(model, None, 100, 0))
    assert len(got) == len(known) == 6
    for field in ("rotation", "translation", "joints"):
        np.testing.assert_array_equal(getattr(got, field), getattr(known, field))
    planar = replay.generate(GraspRequest(model, "planar", 2, 0))
    np.testing.assert_array_equal(planar.joints, known.joints[3:5])
    assert len(replay.generate(GraspRequest(load_embedded(CODE, 1.1), None, 5, 0))) == 0
    assert len(replay.generate(GraspRequest(model, "hook", 5, 0))) == 0


def test_retrieval_never_uses_the_object_itself(model: ObjectModel, bank_path: Path) -> None:
    retrieval = Retrieval(str(bank_path), neighbours=100)
    for query in (model, load_embedded(CODE, 1.2), load_embedded(CODE, 0.7)):
        near = retrieval.nearest(query)
        assert [n.key[0] for n in near if n.key[0] == CODE] == []
        assert {n.key[0] for n in near} == set(OTHERS)
        assert [n.distance for n in near] == sorted(n.distance for n in near)


@pytest.mark.parametrize("by", ["box", "map", "points"])
def test_a_turned_object_is_the_most_alike(by: Descriptor) -> None:
    from simeval.objects import build_object
    from simeval.objects.shapes import shape_pieces

    pieces = shape_pieces("pan", 3)
    for yaw in range(4):
        turn = quarter_turn(yaw)
        keys = [("plain", 1.0), ("larger", 1.0), ("other", 1.0)]
        models = {
            "plain": build_object("plain", [(p @ turn.T, None) for p in pieces]),
            "larger": build_object("larger", [(1.3 * p @ turn.T, None) for p in pieces]),
            "other": load_embedded("embedded-jar-04"),
        }
        shapes = {key: shape_of(models[key[0]]) for key in keys}
        known = Known(keys, {}, shapes, lambda code, _, models=models: models[code], by)
        gaps, turns = known.compare(build_object("turned", [(p, None) for p in pieces]))
        assert gaps[0] < 1e-3 < gaps[1] < gaps[2]
        assert turns[0] == -yaw % 4


def test_retrieval_by_other_descriptors_and_without_types(model: ObjectModel, bank_path: Path) -> None:
    known = {by: Retrieval(str(bank_path), by=by, neighbours=3).nearest(model) for by in ("box", "map", "points")}
    assert {n.key[0] for n in known["map"]} == {n.key[0] for n in known["points"]} == set(OTHERS)
    assert known["map"][0].distance != known["box"][0].distance
    blind = Retrieval(str(bank_path), typed=False).generate(GraspRequest(model, "planar", 12, 0))
    typed = Retrieval(str(bank_path)).generate(GraspRequest(model, "planar", 12, 0))
    assert len(blind) > len(typed)
    assert len(Retrieval(str(bank_path)).generate(GraspRequest(model, "hook", 3, 0))) == 0
    with pytest.raises(SettingError, match="by='colour'"):
        make_generator("retrieval", {"by": "colour"})


def test_retrieved_grasps_touch_without_going_deep(model: ObjectModel, bank_path: Path) -> None:
    grasps = build("retrieval", bank_path).generate(GraspRequest(model, "planar", 3, 0))
    assert len(grasps) == 3
    assert grasps.score is not None
    assert (np.diff(grasps.score) <= 0).all()
    for g in grasps:
        assert measure(model, g.rotation[0], g.translation[0], g.joints[0]).object_mm <= 1.0


def test_the_best_of_several_retrieved_grasps_is_returned(model: ObjectModel, bank_path: Path) -> None:
    request = GraspRequest(model, "planar", 2, 0)
    everything = Retrieval(str(bank_path), neighbours=100).generate(GraspRequest(model, "planar", 8, 0))
    score = ranker("robust").scores(model, GRASP_TYPES["planar"], everything)
    found = Retrieval(str(bank_path), neighbours=100, best_of=4, rank="robust").generate(request)
    np.testing.assert_allclose(found.score, [score[:8][i::2].max() for i in range(2)])
    np.testing.assert_array_equal(found.joints[0], everything.joints[score[:8:2].argmax() * 2])
    untyped = Retrieval(str(bank_path), best_of=3, rank="score").generate(GraspRequest(model, None, 2, 0))
    assert len(untyped) == 2
    with pytest.raises(SettingError, match="best_of must be from 1"):
        Retrieval(str(bank_path), best_of=0)
    with pytest.raises(SettingError, match="ranking"):
        Retrieval(str(bank_path), rank="taste")


def test_fitting_leaves_fingers_alone_that_the_type_does_not_hold_with(model: ObjectModel) -> None:
    tips = make_generator("preshape").generate(GraspRequest(model, "tip", 4, 1))
    off = tips.with_(translation=tips.translation + 0.003)
    flexion = [JOINT_NAMES.index(name) for name in ("RFJ2", "RFJ1", "LFJ2", "LFJ1")]
    kept, closed = fit_all(model, off, ["tip"] * 4), fit_all(model, off, [None] * 4)
    assert (kept.joints[:, flexion] <= off.joints[:, flexion] + 1e-9).all()
    assert (closed.joints[:, flexion] > off.joints[:, flexion] + 0.1).any()


def test_fitting_takes_a_hand_back_only_until_it_is_clear(model: ObjectModel) -> None:
    grasps = make_generator("preshape").generate(GraspRequest(model, "cylindrical", 4, 1))
    forward = -grasps.rotation[:, :, 1]
    deep = grasps.with_(translation=grasps.translation + 0.012 * forward)
    fitted = fit_all(model, deep, ["cylindrical"] * 4)
    back = np.linalg.norm(fitted.translation - deep.translation, axis=1)
    assert (back <= BACK_OFFS[-1] + 1e-9).all()
    assert (back > 1e-3).any()
    for i in range(4):
        found = measure(model, fitted.rotation[i], fitted.translation[i], fitted.joints[i], own=False)
        assert found.object_mm < 1.0
    assert not len(fit_all(model, GraspBatch.empty(), []))


def test_a_turned_object_is_recognised_and_its_grasps_turn_along() -> None:
    from simeval.objects import build_object
    from simeval.objects.shapes import shape_pieces

    pieces = shape_pieces("pan", 3)  # one sided: only one of the four turns fits
    plain = build_object("plain", [(p, None) for p in pieces])
    for yaw in range(4):
        turn = quarter_turn(yaw)
        turned = build_object("turned", [(p @ turn.T, None) for p in pieces])
        gaps = [np.linalg.norm(box(shape_of(plain), k) - box(shape_of(turned), 0)) for k in range(4)]
        assert int(np.argmin(gaps)) == yaw
        assert min(gaps) < 1e-4
        grasp = GraspBatch.from_vectors(np.random.default_rng(0).normal(size=(1, 28)))
        moved = transfer(grasp, shape_of(plain), shape_of(turned), yaw)
        np.testing.assert_allclose(moved.rotation[0], turn @ grasp.rotation[0], atol=1e-12)
        np.testing.assert_allclose(moved.translation[0], turn @ grasp.translation[0], atol=1e-5)


def test_up_frame_is_a_right_handed_frame() -> None:
    for up in ([0, 0, 1], [0, 1, 0], [0, 0, -1], [0.6, 0, 0.8]):
        frame = up_frame(np.array(up, dtype=float))
        np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-12)
        assert np.linalg.det(frame) > 0
        np.testing.assert_allclose(frame[:, 2], up, atol=1e-12)


@pytest.mark.parametrize("kind", GRASP_TYPES)
def test_preshape_makes_sound_grasps_of_every_type(kind: str) -> None:
    thin = load_embedded("embedded-card-07")
    grasps = make_generator("preshape").generate(GraspRequest(thin, kind, 2, 0))
    assert len(grasps) == 2
    assert grasps.score is not None
    assert (grasps.score <= 1).all()
    assert grasps.score[0] >= grasps.score[1]
    for g in grasps:
        depth = measure(thin, g.rotation[0], g.translation[0], g.joints[0])
        assert depth.object_mm <= 1.0
        assert depth.self_mm <= 2.0


def test_a_type_that_an_object_does_not_allow_costs_no_other(model: ObjectModel) -> None:
    def find(model: ObjectModel, kind: GraspType, count: int, rng: np.random.Generator) -> GraspBatch:
        if kind.name not in allowed:
            raise GraspError("too thick")
        wrists, joints = np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 22))
        return GraspBatch(wrists, np.zeros((count, 3)), joints, score=np.ones(count))

    asked, allowed = GraspRequest(model, None, 20, 0), {"hook", "spherical"}
    assert 1 < len(best_by_type(asked, np.random.default_rng(0), find)) < 20
    allowed.clear()
    with pytest.raises(GraspError, match="too thick"):
        best_by_type(asked, np.random.default_rng(0), find)


def test_scoop_lies_flat_under_the_object(model: ObjectModel) -> None:
    from simeval.objects import build_object

    lying = build_object("lying", [(p.vertices, None) for p in model.pieces], up=(0, 1, 0))
    for query in (model, lying):
        grasps = make_generator("scoop").generate(GraspRequest(query, None, 5, 0))
        lowest = (query.surface.vertices @ query.up).min()
        for g in grasps:
            np.testing.assert_allclose(-g.rotation[0][:, 1], query.up, atol=1e-9)  # palm up
            front = g.rotation[0] @ SCOOP_CENTER + g.translation[0]
            assert lowest - 0.012 < front @ query.up < lowest + SCOOP_PRESS + 1e-6
            offset = front - query.center_of_mass
            assert np.linalg.norm(offset - (offset @ query.up) * query.up) < 0.025
        assert grasps.squeeze is not None
        np.testing.assert_array_equal(grasps.joints, grasps.squeeze)


def test_open_hand_keeps_the_wrist_and_opens_the_fingers(model: ObjectModel, bank_path: Path, bank: GraspBank) -> None:
    known = bank.for_object(CODE, 1.0)
    got = build("open-hand", bank_path).generate(GraspRequest(model, None, 6, 0))
    np.testing.assert_array_equal(got.rotation, known.rotation)
    np.testing.assert_array_equal(got.translation, known.translation)
    assert got.pregrasp is not None
    assert got.squeeze is not None
    np.testing.assert_array_equal(got.joints, got.squeeze)
    np.testing.assert_array_equal(got.joints, got.pregrasp)
    assert np.abs(got.joints[:, [1, 2, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16, 18, 21]]).max() == 0


def test_random_wrists_are_near_and_uniform(model: ObjectModel) -> None:
    grasps = make_generator("random").generate(GraspRequest(model, None, 2000, 0))
    radius = np.linalg.norm(model.surface.vertices - model.center_of_mass, axis=1).max()
    away = np.linalg.norm(grasps.translation - model.center_of_mass, axis=1) - radius
    assert 0 <= away.min() < 0.005
    assert 0.095 < away.max() <= 0.1
    assert np.abs(grasps.rotation.mean(axis=0)).max() < 0.05
    cosine = (np.trace(grasps.rotation, axis1=1, axis2=2) - 1) / 2
    assert abs(cosine.mean() + 0.5) < 0.05  # uniform on SO(3): E[tr R] = 0


def test_bad_settings_say_so(bank_path: Path) -> None:
    with pytest.raises(SettingError, match="tries must be at least 1"):
        make_generator("preshape", {"tries": "0"})
    with pytest.raises(SettingError, match="neighbours must be from 1"):
        build("retrieval", bank_path, {"neighbours": "0"})
    with pytest.raises(SettingError, match="Did you mean 'released'"):
        make_generator("replay", {"bank": "relesed"})


@pytest.mark.parametrize("name", ["replay", "retrieval", "open-hand"])
def test_a_damaged_bank_is_found_before_anything_is_tried(name: str, bank_path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(bank_path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"damaged.parquet can't be read"):
        build(name, damaged)


def test_a_strangers_package_is_found_and_runs(tmp_path: Path) -> None:
    target = tmp_path / "site"
    install(PLUGIN, target, tmp_path)
    script = (
        "from simeval.registry import generator_names, generator_origin, make_generator\n"
        "from simeval.generator import GraspRequest\n"
        "from simeval.objects import load_embedded\n"
        "assert {'stranger', 'preshape'} <= set(generator_names()), generator_names()\n"
        f"request = GraspRequest(load_embedded({CODE!r}), None, 3, 0)\n"
        "grasps = make_generator('stranger', {'height': '0.2'}).generate(request)\n"
        "print(generator_origin('stranger'), len(grasps), round(float(grasps.translation[:, 2].mean()), 1))\n"
    )
    path = f"import sys; sys.path.insert(0, {str(target)!r})\n"
    done = subprocess.run([sys.executable, "-c", path + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "stranger-grasps (stranger_grasps:Stranger) 3 0.2"


@pytest.mark.parametrize("kind", ["float64", "float32", "torch"])
@pytest.mark.parametrize("fingers", [("FF", "MF", "RF", "LF", "TH"), ("MF", "LF"), ("TH",), ()])
def test_spheres_lie_where_the_hands_kinematics_says(kind: str, fingers: tuple[str, ...]):
    hand, spheres, rng = load_hand(), hand_spheres(), np.random.default_rng(0)
    some = np.isin(spheres.finger, [-1, *(FINGER_NAMES.index(name) for name in fingers)])
    link, center, joints = spheres.link[some], spheres.center[some], rng.uniform(hand.lower, hand.upper, (5, 22))
    joints, center = (torch.tensor(x).float() if kind == "torch" else x.astype(kind) for x in (joints, center))
    turn, shift = hand.link_transforms(joints)
    wanted = (turn[:, link] @ center[:, :, None])[..., 0] + shift[:, link]
    found = place_spheres(joints, link, center, fingers)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-15 if kind == "float64" else 1e-7)
