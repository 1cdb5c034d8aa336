"""Grasp diffusion: schedules and sampling against a case that can be solved exactly."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simeval.generators.diffusion.coding import (
    CodeSpec,
    Grasps,
    Place,
    fit_basis,
    fit_latents,
    fit_scale,
    read_code,
    write_code,
)
from simeval.generators.diffusion.geometry import GeometryCode, describe
from simeval.generators.diffusion.local import LocalDenoiser
from simeval.generators.diffusion.network import Denoiser, NetworkSpec
from simeval.generators.diffusion.noise import Prediction, ScheduleName, make_schedule, parts, sample, target
from simeval.generators.field import Field, Grid, make_grid
from simeval.grasp import GraspBatch
from simeval.hand import load_hand
from simeval.objects import ObjectModel, load_embedded

MEAN, SPREAD = 1.5, 0.3


def perfect(name: ScheduleName, kind: Prediction, steps: int = 50):  # type: ignore[no-untyped-def]
    """The best denoiser there is for data drawn from a normal distribution, and the schedule."""
    schedule = make_schedule(name, steps)

    def denoise(x: Tensor, t: int, clean: Tensor | None = None) -> Tensor:
        a, s = schedule.signal[t], schedule.noise[t]
        gain = a * SPREAD**2 / (a**2 * SPREAD**2 + s**2)
        clean = MEAN + gain * (x - a * MEAN)
        return target(kind, schedule, torch.full((len(x),), t), clean, (x - a * clean) / s)

    return denoise, schedule


def test_the_sources_schedule_keeps_most_of_the_signal():
    linear, repaired = make_schedule("linear", 50), make_schedule("linear-zero-snr", 50)
    assert float(linear.signal[-1]) ** 2 == pytest.approx(0.603, abs=0.001)  # 78 % of the amplitude
    assert float(repaired.signal[-1]) == 0.0
    for name in ("linear", "linear-zero-snr", "cosine"):
        schedule = make_schedule(name, 50)
        torch.testing.assert_close(schedule.signal**2 + schedule.noise**2, torch.ones(50))
        assert (schedule.signal[1:] < schedule.signal[:-1]).all()
        assert float(schedule.signal[0]) > 0.99


@pytest.mark.parametrize("kind", ["noise", "velocity", "sample"])
def test_a_prediction_is_undone(kind: Prediction):
    schedule, draw = make_schedule("linear", 50), torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 6, generator=draw)
    for t in (0, 20, 49):
        noised = schedule.signal[t] * clean + schedule.noise[t] * noise
        predicted = target(kind, schedule, torch.full((4,), t), clean, noise)
        found = parts(kind, schedule, t, noised, predicted)
        torch.testing.assert_close(found[0], clean, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(found[1], noise, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["linear-zero-snr", "cosine"])
@pytest.mark.parametrize("kind", ["velocity", "sample"])
@pytest.mark.parametrize("ancestral", [False, True])
def test_sampling_finds_the_distribution(name: ScheduleName, kind: Prediction, ancestral: bool):
    denoise, schedule = perfect(name, kind)
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(4000, 1, generator=draw)
    fresh = (lambda _: torch.randn(4000, 1, generator=draw)) if ancestral else None
    found = sample(denoise, start, schedule, kind, 50, fresh)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.std()) == pytest.approx(SPREAD, abs=0.04)


def test_the_sources_schedule_misses_it():
    """A perfect denoiser, sampled from pure noise where the last step still has signal, misses the mean."""
    denoise, schedule = perfect("linear", "noise")
    found = sample(denoise, torch.randn(4000, 1, generator=torch.Generator().manual_seed(1)), schedule, "noise", 50)
    assert float(found.mean()) < MEAN - 0.3


def test_fewer_steps_and_a_limit():
    denoise, schedule = perfect("cosine", "velocity")
    start = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
    few = sample(denoise, start, schedule, "velocity", 10)
    assert float(few.mean()) == pytest.approx(MEAN, abs=0.05)
    limited = sample(denoise, start, schedule, "velocity", 50, limit=1.0)
    assert float(limited.abs().max()) <= 1.0
    alone = sample(denoise, start[:3], schedule, "velocity", 50)
    torch.testing.assert_close(alone, sample(denoise, start, schedule, "velocity", 50)[:3])


def some_grasps(count: int) -> tuple[Grasps, Place]:
    draw = np.random.default_rng(0)
    hand = load_hand()
    vectors = np.concatenate(
        [draw.uniform(hand.lower, hand.upper, (count, 22)), draw.uniform(-1.5, 1.5, (count, 6))], axis=1
    )
    batch = GraspBatch.from_vectors(vectors)
    grasps = Grasps(*(torch.tensor(x) for x in (batch.rotation, batch.translation, batch.joints)))
    center, radius = draw.normal(size=(count, 3)), draw.uniform(0.02, 0.2, count)
    return grasps, Place(torch.tensor(center), torch.tensor(radius))


CODES = [
    CodeSpec(joints, rotation, translation, 22, scale)
    for joints in ("angles", "pca")
    for rotation in ("euler", "6d")
    for translation in ("metric", "object", "grasp-point", "centered")
    for scale in ("range", "spread")
]


@pytest.mark.parametrize("spec", CODES, ids=lambda s: f"{s.joints}-{s.rotation}-{s.translation}-{s.scale}")
def test_a_code_is_read_as_it_was_written(spec: CodeSpec):
    grasps, place = some_grasps(30)
    basis = fit_basis(grasps.joints, 22)
    raw = write_code(spec, grasps, place, basis)
    assert raw.shape == (30, spec.size)
    scale = fit_scale(spec, raw)
    unit = scale.to_unit(raw)
    if spec.scale == "range":
        assert float(unit.abs().max()) == pytest.approx(1.0)
    else:
        torch.testing.assert_close(
            unit[:, :22].std(0), torch.full((22,), 0.5, dtype=torch.float64), rtol=1e-6, atol=0.02
        )
    found = read_code(spec, scale.from_unit(unit), place, basis)
    for a, b in zip(found, grasps, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_main_components_keep_what_varies_and_none_keeps_the_posture():
    grasps, place = some_grasps(40)
    few = grasps._replace(joints=grasps.joints[:3].repeat(14, 1)[:40])  # three hands: two components
    spec = CodeSpec("pca", "6d", "object", 2)
    basis = fit_basis(few.joints, 2)
    found = read_code(spec, write_code(spec, few, place, basis), place, basis)
    torch.testing.assert_close(found.joints, few.joints, atol=1e-8, rtol=1e-8)
    wrist = CodeSpec("none", "euler", "metric")
    assert wrist.size == 6
    raw = write_code(wrist, grasps, place)
    assert float(read_code(wrist, raw, place).joints.abs().max()) == 0
    torch.testing.assert_close(read_code(wrist, raw, place, posture=grasps.joints).joints, grasps.joints)


def test_an_autoencoder_keeps_hands_on_a_curved_line():
    """All that varies is one number, but not along a line: one main component can't follow it."""
    grasps, place = some_grasps(400)
    hand = load_hand()
    t = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None]
    bent = 0.5 + 0.4 * torch.cat([torch.cos(3 * t).repeat(1, 11), torch.sin(3 * t).repeat(1, 11)], dim=1)
    low, high = torch.tensor(hand.lower), torch.tensor(hand.upper)
    curved = Grasps(grasps.rotation.float(), grasps.translation.float(), (low + bent * (high - low)).float())
    near = Place(*(p.float() for p in place))
    state, error = torch.get_rng_state(), {}
    for joints in ("pca", "vae"):
        spec = CodeSpec(joints, "6d", "object", 1)
        latents = fit_latents(spec, curved.joints)
        raw = write_code(spec, curved, near, latents)
        assert raw.shape == (400, 10)
        found = read_code(spec, raw, near, latents).joints
        error[joints] = float(((found - curved.joints) / (high - low)).square().mean().sqrt())
    assert error["vae"] < 0.05
    assert error["vae"] < error["pca"] / 2
    assert torch.equal(state, torch.get_rng_state())
    again = fit_latents(CodeSpec("vae", components=1), curved.joints)
    for a, b in zip(again, latents, strict=True):
        assert torch.equal(a, b)


def test_any_number_is_a_rotation_and_within_limits():
    spec, (_, place) = CodeSpec(), some_grasps(50)
    raw = 3 * torch.randn(50, spec.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = read_code(spec, raw, place)
    eye = torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    torch.testing.assert_close(found.rotation @ found.rotation.mT, eye, atol=1e-9, rtol=0)
    assert (torch.linalg.det(found.rotation) > 0).all()
    assert load_hand().clip(found.joints.numpy())[1].max() < 1e-9


@pytest.fixture(scope="module")
def jar() -> ObjectModel:
    return load_embedded("embedded-jar-04")


def test_shapes_are_told_in_their_own_size(jar: ObjectModel):
    big = load_embedded("embedded-jar-04", 2.0)
    for code in ("metric-map", "basis-points"):
        one, two = describe(jar, code), describe(big, code)
        np.testing.assert_allclose(one.values, two.values, atol=1e-6)
        assert two.radius == pytest.approx(2 * one.radius)
    one, two = describe(jar, "scaled-map"), describe(big, "scaled-map")
    assert one.values.shape == (50, 50, 50)
    assert one.values.min() >= 0
    np.testing.assert_allclose(2 * one.values, two.values, atol=1e-6)  # the values know the size, the grid doesn't
    signed = describe(jar, "metric-map").values
    assert signed.min() < 0 < signed.max()
    points = describe(jar, "basis-points").values
    assert points.shape == (1024, 4)
    np.testing.assert_allclose(np.linalg.norm(points[:, 1:], axis=1), 1, atol=1e-6)


def asked(
    network: Denoiser | LocalDenoiser, noised: Tensor, step: Tensor, kind: Tensor, encoded: Any, owner: Tensor,
    guess: Any = None,
) -> Tensor:  # fmt: skip
    return network(noised, network.tell(step, kind[None]), encoded, owner, guess)[0]


@pytest.mark.parametrize("geometry", ["scaled-map", "metric-map", "basis-points"])
@torch.no_grad()
def test_the_denoiser_uses_all_it_is_told(geometry: GeometryCode, jar: ObjectModel):
    torch.manual_seed(0)
    network = Denoiser(NetworkSpec(geometry), 28, 3)
    packed = network.pack([describe(jar, geometry), describe(load_embedded("embedded-jar-04", 1.5), geometry)])
    encoded = network.encode(packed, torch.tensor([0, 1]))
    owner = torch.tensor([0, 0, 1, 1, 0])
    noised, kind = torch.randn(5, 28), torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0, 1]), 3).float()
    step = torch.tensor([0, 10, 20, 30, 49])
    base = asked(network, noised, step, kind, encoded, owner)
    assert base.shape == (5, 28)
    for changed in (
        (noised + 0.1, step, kind, owner), (noised, step.flip(0), kind, owner), (noised, step, kind.roll(1, 1), owner),
        (noised, step, kind, 1 - owner),
    ):  # fmt: skip
        other = asked(network, *changed[:3], encoded, changed[3])
        assert float((other - base).abs().max()) > 1e-4
    one = asked(network, noised[2:3], step[2:3], kind[2:3], encoded, owner[2:3])
    torch.testing.assert_close(one, base[2:3])
    twice = network(noised, network.tell(step, torch.stack([kind, kind.roll(1, 1)])), encoded, owner, None)
    torch.testing.assert_close(
        twice, torch.stack([base, asked(network, noised, step, kind.roll(1, 1), encoded, owner)])
    )


def test_the_sources_denoiser_has_its_sizes():
    network = Denoiser(NetworkSpec(), 28, 3)
    first = network.layers[0]
    assert isinstance(first, torch.nn.Linear)
    assert first.in_features == 2371  # 28 × 64 + 64 + 3 + 512
    assert sum(p.numel() for p in network.parameters()) < 3e6


def turned(grid: Grid) -> Grid:
    """The grid of an object turned by a quarter about z: exact, for its axes change places."""
    x, y, z = grid.origin
    top = y + grid.spacing * (grid.values.shape[1] - 1)
    a, b, c = grid.center
    return Grid(np.swapaxes(grid.values, 0, 1)[::-1].copy(), np.array([-top, x, z]), grid.spacing, np.array([-b, a, c]))


@torch.no_grad()
def test_the_local_denoiser_turns_with_object_and_hand(jar: ObjectModel):
    """Equivariance, and that it looks at the object, at the guess and at all else that it is told."""
    torch.manual_seed(0)
    spec = CodeSpec("angles", "6d", "centered", scale="spread")
    network = LocalDenoiser(NetworkSpec("field", width=32, blocks=1), spec, 3)
    for parameter in network.parameters():
        parameter.add_(0.15 * torch.randn(parameter.shape))
    shape = describe(jar, "field")
    assert isinstance(shape.values, Grid)
    scene = network.encode(network.pack([shape, replace(shape, values=turned(shape.values))]), torch.tensor([0, 1]))
    grasps, _ = some_grasps(5)
    hands = Grasps(*(value.float() for value in grasps))
    hands = hands._replace(translation=hands.translation * 0.1)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    noised, step = torch.randn(5, spec.size), torch.arange(5)
    kind = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0, 1]), 3).float()

    def turn(code: Tensor) -> Tensor:
        return torch.cat([code[:, :22], (code[:, 22:].unflatten(1, (3, 3)) @ quarter.T).flatten(1)], dim=1)

    here, there = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    moved = Grasps(quarter @ hands.rotation, hands.translation @ quarter.T, hands.joints)
    base = asked(network, noised, step, kind, scene, here, hands)
    again = asked(network, turn(noised), step, kind, scene, there, moved)
    torch.testing.assert_close(again, turn(base), atol=1e-3, rtol=1e-3)
    rolled = asked(network, noised, step, kind.roll(1, 1), scene, here, hands)
    for other in (
        asked(network, noised, step, kind, scene, there, hands), asked(network, noised, step, kind, scene, here, moved),
        asked(network, noised, step + 9, kind, scene, here, hands), rolled,
    ):  # fmt: skip
        assert float((other - base).abs().max()) > 1e-3
    twice = network(noised, network.tell(step, torch.stack([kind, kind.roll(1, 1)])), scene, here, hands)
    torch.testing.assert_close(twice, torch.stack([base, rolled]))


def test_a_field_tells_where_distance_grows(jar: ObjectModel):
    grid = make_grid(jar, 200_000)
    field, zero = Field([grid]), torch.zeros(400, dtype=torch.long)
    points = torch.randn(400, 1, 3, generator=torch.Generator().manual_seed(0)) * 0.06
    distance, outward = field.signed_and_gradient(points, zero)
    torch.testing.assert_close(distance, field.signed(points, zero))
    every, some = field.signed_and_gradient(points.reshape(100, 4, 3), zero[:100], 2)
    assert every.shape == (100, 4)
    torch.testing.assert_close(some, outward.reshape(100, 4, 3)[:, :2])
    step = 1e-4
    ahead, behind = field.signed(points + step * outward, zero), field.signed(points - step * outward, zero)
    slope = ((ahead - behind) / (2 * step))[distance > 0.005]
    assert float(slope.median()) == pytest.approx(1.0, abs=0.02)
