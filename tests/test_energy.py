"""The energy generator: its distance field, its energy, its descent, and what it does where nothing can be grasped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from simeval.devices import one_thread
from simeval.errors import GraspError, SettingError
from simeval.generator import GraspRequest
from simeval.generators.energy.anneal import Schedule, anneal, nearest_contacts, shares
from simeval.generators.energy.energy import State, Weights, balance, contact_groups, energy, hand_tensors, place
from simeval.generators.energy.generator import Energy, Refine, descend
from simeval.generators.field import Field, make_grid, trilinear
from simeval.generators.fitting import nearby
from simeval.generators.holding import robust_scores
from simeval.generators.preshape import candidates
from simeval.generators.ranking import ranker
from simeval.hand import load_hand
from simeval.metrics.distance import object_distance
from simeval.objects import ObjectModel, build_object, load_embedded
from simeval.taxonomy import GRASP_TYPES

KINDS = list(GRASP_TYPES)


@pytest.fixture(scope="module")
def ball() -> ObjectModel:
    return load_embedded("embedded-ball-04")


@pytest.fixture(scope="module")
def block() -> ObjectModel:
    return load_embedded("embedded-block-04")


def start(model: ObjectModel, name: str, count: int) -> tuple[Field, State, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Closed preshapes as a State: field, state, groups, object and type of each."""
    grasps, _ = candidates(model, GRASP_TYPES[name], count, np.random.default_rng(0))
    field, hand, n = Field([make_grid(model)]), hand_tensors(), len(grasps)
    values = (torch.tensor(x, dtype=torch.float32) for x in (grasps.rotation, grasps.translation, grasps.joints))
    state = State(*values, torch.zeros(n, 1, dtype=torch.long), torch.zeros(n, 1))
    which, kind = torch.zeros(n, dtype=torch.long), torch.full((n,), KINDS.index(name))
    contacts, groups = nearest_contacts(hand, field, state, which, [name] * n)
    return field, replace(state, contacts=contacts, share=shares(groups, [name] * n)), groups, which, kind


def test_the_hand_can_be_moved_downhill_after_inference_mode(block):
    hand_tensors.cache_clear()
    with torch.inference_mode():
        hand = hand_tensors()
    field, state, _, which, kind = start(block, "tip", 2)
    joints = state.joints.requires_grad_()
    energy(hand, field, replace(state, joints=joints), which, kind, Weights()).sum().backward()
    assert joints.grad is not None


def test_field_is_the_exact_distance_but_for_the_grid(ball, block):
    field, rng = Field([make_grid(ball), make_grid(block)]), np.random.default_rng(1)
    points = rng.uniform(-0.06, 0.06, size=(2, 2000, 3))
    found = field.signed(torch.tensor(points, dtype=torch.float32), torch.tensor([0, 1])).numpy()
    for k, model in enumerate((ball, block)):
        exact = object_distance(model).signed(points[k])
        error = np.abs(found[k] - exact)
        assert error[np.abs(exact) < 0.01].mean() < 2e-4
        assert error[np.abs(exact) < 0.02].max() < 3e-3
    alone = Field([make_grid(block)]).signed(torch.tensor(points[1:], dtype=torch.float32), torch.tensor([0])).numpy()
    np.testing.assert_array_equal(alone[0], found[1])


@pytest.mark.parametrize("code", ["embedded-mug-03", "embedded-ring-00"])
def test_an_interpolated_grid_is_exact_near_the_surface_and_close_to_it_elsewhere(code: str):
    model = load_embedded(code)
    exact, quick = make_grid(model, 50_000), make_grid(model, 50_000, exact=False)
    assert quick.values.shape == exact.values.shape
    near = np.abs(exact.values) < 2 * exact.spacing
    np.testing.assert_array_equal(quick.values[near], exact.values[near])
    off = np.abs(quick.values - exact.values)[~near]
    assert 0 < off.mean() < 0.0004
    assert off.max() < 2 * exact.spacing


def test_a_grid_is_interpolated_as_scipy_does_it():
    rng = np.random.default_rng(0)
    coarse = [np.sort(rng.normal(size=n)) for n in (2, 5, 9)]
    axes = [np.sort(np.r_[known[[0, -1]], known[1], rng.uniform(known[0], known[-1], 7)]) for known in coarse]
    values = rng.normal(size=(2, 5, 9))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    np.testing.assert_allclose(trilinear(coarse, values, axes), RegularGridInterpolator(coarse, values)(points), 1e-12)


def test_field_goes_on_growing_far_away(ball):
    field, zero = Field([make_grid(ball)]), torch.tensor([0])
    away = torch.tensor([[[0.2, 0, 0], [0.4, 0, 0], [3.0, 0, 0]]])
    distances = field.signed(away, zero)[0].numpy()
    exact = object_distance(ball).signed(away[0].double().numpy())
    np.testing.assert_allclose(distances, exact, rtol=0.1)
    normal = field.normal(away, zero)[0].numpy()
    np.testing.assert_allclose(normal, [[1, 0, 0]] * 3, atol=0.15)


def test_normals_point_outwards(ball):
    direction = np.random.default_rng(2).normal(size=(50, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = ball.center_of_mass + 0.03 * direction
    normal = (
        Field([make_grid(ball)]).normal(torch.tensor(points[None], dtype=torch.float32), torch.tensor([0]))[0].numpy()
    )
    assert (np.einsum("ij,ij->i", normal, direction) > 0.97).all()


def test_gradient_is_that_of_the_energy(ball):
    field, state, _, which, kind = start(ball, "planar", 6)
    hand = hand_tensors()
    joints = state.joints.clone().requires_grad_(True)
    energy(hand, field, replace(state, joints=joints), which, kind, Weights()).sum().backward()
    step = 1e-3
    for joint in (1, 9, 20):
        change = torch.zeros(22)
        change[joint] = step
        ahead = energy(hand, field, replace(state, joints=state.joints + change), which, kind, Weights())
        behind = energy(hand, field, replace(state, joints=state.joints - change), which, kind, Weights())
        measured = ((ahead - behind) / (2 * step)).numpy()
        error = np.abs(joints.grad[:, joint].numpy() - measured)
        assert np.median(error) < 0.03 * max(1.0, np.abs(measured).max())  # a median: the grid has kinks


def test_two_opposed_contacts_balance_and_two_beside_one_another_do_not(block):
    field, zero = Field([make_grid(block)]), torch.tensor([0])
    low, high = object_distance(block).lower, object_distance(block).upper
    middle = (low + high) / 2
    left, right = middle.copy(), middle.copy()
    left[0], right[0] = low[0], high[0]
    beside = right + np.array([0, 0.004, 0])
    index, valid, share = torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2)

    def rest(a: np.ndarray, b: np.ndarray) -> float:
        centers = torch.tensor(np.stack([a, b])[None], dtype=torch.float32)
        return float(balance(field, centers, index, valid, share, zero))

    assert rest(left, right) < 0.05
    assert rest(right, beside) > 0.9


def test_contacts_belong_to_the_type():
    hand, link = load_hand(), hand_tensors().link.numpy()
    for kind in GRASP_TYPES.values():
        groups = contact_groups(kind)
        assert len(groups) >= 2
        names = {hand.link_names[i] for group in groups for i in link[group]}
        assert names <= set(kind.contact_links)


@pytest.mark.parametrize("name", ["planar", "lateral"])
def test_descent_lowers_the_energy_and_stays_a_hand(ball, name):
    field, state, groups, which, kind = start(ball, name, 24)
    hand = hand_tensors()
    before = energy(hand, field, state, which, kind, Weights())
    generator = torch.Generator().manual_seed(0)
    with one_thread():
        after, value = anneal(hand, field, state, groups, which, kind, generator, Schedule(steps=60), Weights())
    assert (value <= before).float().mean() > 0.9
    assert value.median() < 0.7 * before.median()
    torch.testing.assert_close(value, energy(hand, field, after, which, kind, Weights()))
    assert (after.joints >= hand.lower).all()
    assert (after.joints <= hand.upper).all()
    identity = torch.eye(3).expand(len(value), 3, 3)
    torch.testing.assert_close(after.rotation @ after.rotation.transpose(1, 2), identity, atol=1e-4, rtol=0)
    touching = groups.gather(2, after.contacts.clamp(min=0)[..., None])[..., 0]
    assert (touching | (after.contacts < 0)).all()  # contacts were replaced within their groups only
    assert place(hand, after).isfinite().all()


def test_same_seed_same_grasps_and_another_seed_others(ball):
    def make(seed: int) -> np.ndarray:
        return Energy(tries=4, steps=20).generate(GraspRequest(ball, "planar", 2, seed)).to_vectors()

    np.testing.assert_array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))


def test_what_is_near_a_grasp_may_be_better_and_is_never_worse(block):
    alone, near = (
        Energy(tries=4, steps=20, copies=copies).generate(GraspRequest(block, "hook", 2, 1)) for copies in (1, 8)
    )
    scores = [np.sort(ranker("blend").scores(block, GRASP_TYPES["hook"], grasps)) for grasps in (alone, near)]
    assert (scores[1] >= scores[0] - 1e-4).all()
    assert scores[1].sum() > scores[0].sum()


def box(size: tuple[float, float, float]) -> ObjectModel:
    return build_object("box", [(np.array(np.meshgrid(*[[-s / 2, s / 2] for s in size])).reshape(3, -1).T, None)])


def test_what_no_hand_can_hold_is_explained():
    with pytest.raises(GraspError, match="nowhere thin enough to pinch"):
        Energy(tries=3, steps=10).generate(GraspRequest(box((2.0, 2.0, 2.0)), "tip", 2, 0))


def test_a_needle_ends():
    grasps = Energy(tries=3, steps=10).generate(GraspRequest(box((0.0008, 0.0008, 0.1)), "tip", 2, 0))
    assert np.isfinite(grasps.to_vectors()).all()


def test_refining_lowers_the_energy_and_keeps_what_it_cannot_use(ball):
    start = candidates(ball, GRASP_TYPES["tip"], 12, np.random.default_rng(0)).grasps[np.arange(4)]
    translation = start.translation + 0.004
    translation[3] = np.nan
    shifted = start.with_(translation=translation, score=np.arange(4.0))
    refined = Refine(steps=40, copies=1).refine(ball, shifted, "tip", 0)
    assert len(refined) == 4
    np.testing.assert_array_equal(refined.score, np.arange(4.0))
    assert np.isnan(refined.translation[3]).all()
    kinds = ["tip"] * 3
    before, after = (
        descend(ball, grasps[np.arange(3)], kinds, Schedule(steps=0), 0)[1] for grasps in (shifted, refined)
    )
    assert (after < before).all()
    again = Refine(steps=40, copies=1).refine(ball, shifted, "tip", 0)
    np.testing.assert_array_equal(again.joints, refined.joints)
    untyped = Refine(steps=2, copies=1).refine(ball, start, None, 0)
    assert np.isfinite(untyped.joints).all()
    empty = Refine().refine(ball, start[np.arange(0)], "tip", 0)
    assert len(empty) == 0


def test_refining_looks_nearby_and_takes_the_best(ball):
    start = candidates(ball, GRASP_TYPES["tip"], 12, np.random.default_rng(0)).grasps[np.arange(3)]
    shifted = start.with_(translation=start.translation + 0.004)
    copied = nearby(shifted, 5, 3)
    np.testing.assert_array_equal(copied.translation[::5], shifted.translation)
    np.testing.assert_array_equal(nearby(shifted[[0]], 5, 3).rotation, copied.rotation[:5])
    assert np.linalg.norm(copied.translation[1] - copied.translation[0]) > 1e-4
    wide, moves = nearby(shifted, 5, 3, spread=4.0), (copied.translation - np.repeat(shifted.translation, 5, axis=0))
    wider = wide.translation - np.repeat(shifted.translation, 5, axis=0)
    np.testing.assert_allclose(wider, moves * np.tile([1, 1, 2, 3, 4], 3)[:, None], atol=1e-12)
    plain, chosen = (Refine(20, copies, "robust").refine(ball, shifted, "tip", 0) for copies in (1, 5))
    kind = GRASP_TYPES["tip"]
    assert (robust_scores(ball, kind, chosen) >= robust_scores(ball, kind, plain) - 1e-9).all()
    assert robust_scores(ball, kind, chosen).mean() > robust_scores(ball, kind, plain).mean() + 0.01
    again = Refine(20, 5, "robust").refine(ball, shifted, "tip", 0)
    np.testing.assert_array_equal(again.joints, chosen.joints)
    with pytest.raises(SettingError, match="ranking"):
        Refine(rank="luck")
    for spread in (0.5, np.nan, np.inf):
        with pytest.raises(SettingError, match="spread must be from 1 to 10"):
            Refine(spread=spread)


def test_bad_settings_of_energy():
    for make in (Energy, Refine):
        with pytest.raises(SettingError, match="steps"):
            make(steps=-1)
        with pytest.raises(SettingError, match="cpu always can"):
            make(device="nowhere")
