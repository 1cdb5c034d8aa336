"""Training diffusion models: small ones, on grasps of a few embedded objects."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simeval.bank import GraspBank, load_bank, write_bank
from simeval.errors import DataError, GraspError, SettingError
from simeval.generator import GraspRequest
from simeval.generators.diffusion.coding import fit_basis
from simeval.generators.diffusion.config import DEFAULT_PRESET, PRESETS, Preset, changed, preset
from simeval.generators.diffusion.generator import Diffusion, shipped, weights_folder
from simeval.generators.diffusion.model import CONFIG, WEIGHTS, load_model
from simeval.generators.diffusion.train import CURVE, Examples, load_examples, loss_by_step, train
from simeval.generators.holding import hold_scores
from simeval.generators.ranking import DEEPEST
from simeval.hand import load_hand
from simeval.metrics.penetration import measure
from simeval.objects import ObjectLibrary, load_embedded
from simeval.taxonomy import GRASP_TYPES

QUICK = changed(
    PRESETS["paper"],
    {
        "model.types": '["tip", "cylindrical"]', "model.code.rotation": "6d", "model.network.geometry": "basis-points",
        "model.network.object_size": "16", "model.network.width": "32", "model.network.blocks": "1",
        "model.schedule": "cosine", "model.prediction": "velocity", "train.label": "", "train.steps": "150",
        "train.learning_rate": "0.003", "train.ema": "0.9", "train.loss_as_gradient": "false",
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def bank() -> GraspBank:
    return load_bank("embedded", codes=load_bank("embedded").codes[:60].tolist())


@pytest.fixture(scope="module")
def examples(bank: GraspBank) -> Examples:
    return load_examples(bank, QUICK, None)


@pytest.fixture(scope="module")
def trained(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    train(examples, QUICK, out)
    return out


def test_training_learns_and_writes_its_curve(trained: Path, examples: Examples):
    curve = json.loads((trained / "curve.json").read_text())
    losses = [loss for _, loss in curve["loss"]]
    first, last = np.mean(losses[:5]), np.mean(losses[-30:])
    assert last < 0.75 * first
    assert Preset.model_validate(curve["preset"]) == QUICK
    errors = dict(loss_by_step(load_model(trained), examples, repeats=1))
    assert sorted(errors) == list(range(50))
    assert np.mean(list(errors.values())) < 0.95 * first


def test_examples_are_of_the_types_asked_for(examples: Examples, bank: GraspBank):
    assert set(examples.kinds) == {"tip", "cylindrical"}
    assert len(examples.kinds) == int(np.isin(bank.types, ["tip", "cylindrical"]).sum())
    for k, shape in enumerate(examples.shapes):
        rows = np.flatnonzero(examples.which == k)
        np.testing.assert_allclose(examples.place.radius[rows], shape.radius, rtol=1e-6)
    with pytest.raises(DataError, match="no grasp of"):
        load_examples(bank, changed(QUICK, {"model.types": "[]"}), None)


def test_a_stopped_training_goes_on_to_the_same_weights(trained: Path, examples: Examples, tmp_path: Path):
    def stop(done: int, total: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    import simeval.generators.diffusion.train as training

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train(examples, QUICK, tmp_path, progress=stop)
    train(examples, QUICK, tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()
    with pytest.raises(DataError, match="other settings"):
        train(examples, changed(QUICK, {"train.seed": "1"}), tmp_path)
    with pytest.raises(DataError, match="another set"):
        train(examples._replace(holds=~examples.holds), QUICK, tmp_path)
    (tmp_path / "training.pt").write_bytes(b"torn")
    with pytest.raises(DataError, match="delete it"):
        train(examples, QUICK, tmp_path)


def test_samples_depend_on_the_seed_and_their_place_alone(trained: Path, examples: Examples):
    model = load_model(trained)
    shape = examples.shapes[0]
    many = model.generate(shape, "tip", 40, seed=3)
    few = model.generate(shape, "tip", 5, seed=3)
    for a, b in zip(many, few, strict=True):
        torch.testing.assert_close(a[:5], b, atol=1e-4, rtol=0)
    again = model.generate(shape, "tip", 40, seed=3)
    assert torch.equal(again.joints, many.joints)
    other = model.generate(shape, "tip", 40, seed=4)
    assert float((other.joints - many.joints).abs().max()) > 0.01
    quick = model.generate(shape, "tip", 4, seed=3, steps=5, ancestral=False)
    assert torch.isfinite(quick.translation).all()


@pytest.mark.parametrize("name", ["paper-rt", "paper-pca"])
def test_the_sources_variants(name: str, examples: Examples, tmp_path: Path):
    small = {"model.types": '["tip", "cylindrical"]', "train.label": "", "train.steps": "2", "train.batch": "8"}
    size = {"model.network.geometry": "basis-points", "model.network.object_size": "8"}
    chosen = changed(PRESETS[name], {**small, **size})
    train(examples, chosen, tmp_path)
    found = load_model(tmp_path).generate(examples.shapes[0], "tip", 3, 0)
    assert found.joints.shape == (3, 22)
    assert (found.joints[0] == found.joints[1]).all() == (name == "paper-rt")


@pytest.mark.parametrize("name", ["local", "local-rt", "local-pca"])
def test_the_local_denoiser_learns_from_what_holds_and_what_fails(name: str, bank: GraspBank, tmp_path: Path):
    small = {
        "model.types": '["tip", "cylindrical"]', "model.network.width": "64", "model.network.blocks": "1",
        "train.steps": "150", "train.batch": "64", "train.learning_rate": "0.003", "train.warm_up": "5",
        "train.ema": "0.9", "train.points": "0.1",
    }  # fmt: skip
    chosen = changed(PRESETS[name], small)
    failed = replace(bank, grasps=bank.grasps.with_(translation=bank.grasps.translation + 0.05))
    examples = load_examples(bank, chosen, None, None, failed)
    assert examples.holds.sum() == len(examples.holds) / 2
    train(examples, chosen, tmp_path)
    curve = [loss for _, loss in json.loads((tmp_path / "curve.json").read_text())["loss"]]
    assert np.mean(curve[-30:]) < 0.93 * np.mean(curve[:10])
    model = load_model(tmp_path)
    plain = model.generate(examples.shapes[0], "tip", 3, 0, steps=5)
    guided = model.generate(examples.shapes[0], "tip", 3, 0, steps=5, guidance=1.0)
    assert float((plain.translation - guided.translation).abs().max()) > 1e-5
    assert load_hand().clip(guided.joints.numpy())[1].max() < 1e-9
    for a, b in zip(plain, model.generate(examples.shapes[0], "tip", 1, 0, steps=5), strict=True):
        torch.testing.assert_close(a[:1], b, atol=1e-4, rtol=0)


def test_a_local_denoiser_wants_a_code_that_turns(tmp_path: Path):
    with pytest.raises(SettingError, match="turns with the hand"):
        changed(PRESETS["local"], {"model.code.rotation": "euler"})


def test_fewer_grasps_than_main_components_are_too_few(bank: GraspBank):
    few = load_bank("embedded", codes=bank.codes[:1].tolist())
    with pytest.raises(DataError, match=r"has \d+ grasps of .* too few for 15 main components.*components"):
        load_examples(few, PRESETS["local-pca"], None)


def test_a_basis_for_every_batch(examples: Examples, tmp_path: Path):
    """The source's: what is kept is the basis of the last batch."""
    small = {"model.types": '["tip", "cylindrical"]', "train.label": "", "train.steps": "3", "train.batch": "32"}
    size = {"model.network.geometry": "basis-points", "model.network.object_size": "8"}
    kept = {}
    for basis in ("set", "batch"):
        chosen = changed(PRESETS["paper-pca"], {**small, **size, "train.basis": basis})
        kept[basis] = train(examples, chosen, tmp_path / basis).latents
        assert kept[basis] is not None
    assert float((kept["set"].mean - kept["batch"].mean).abs().max()) > 1e-3
    np.testing.assert_allclose(kept["set"].mean, fit_basis(examples.grasps.joints, 15).mean, atol=1e-6)


def test_an_autoencoder_comes_with_its_model(examples: Examples, tmp_path: Path):
    small = {"model.types": '["tip", "cylindrical"]', "train.label": "", "train.steps": "3", "train.batch": "32"}
    size = {"model.network.geometry": "basis-points", "model.network.object_size": "8", "model.code.joints": "vae"}
    made = train(examples, changed(PRESETS["paper-pca"], {**small, **size}), tmp_path)
    model = load_model(tmp_path)
    assert made.latents is not None
    assert model.latents is not None
    for a, b in zip(made.latents, model.latents, strict=True):
        assert torch.equal(a, b)
    found = model.generate(examples.shapes[0], "tip", 3, 0)
    assert load_hand().clip(found.joints.numpy())[1].max() < 1e-9
    config = json.loads((tmp_path / "config.json").read_text())
    config["code"]["components"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="doesn't fit"):
        load_model(tmp_path)


def test_held_out_objects_are_refused(tmp_path: Path):
    library = ObjectLibrary()
    if library.data is None:
        pytest.skip("needs SIMEVAL_DATA")
    for split in ("val", "test", "released"):
        code = library.dexgraspnet.codes(split)[0]
        file = tmp_path / f"{split}.parquet"
        write_bank(file, [code], [0.1], ["tip"], np.zeros((1, 28)))
        with pytest.raises(DataError, match="no model may be trained"):
            load_examples(load_bank(file), QUICK, library.data)
    library.refuse_held_out(library.dexgraspnet.codes("train")[:5])


def test_objects_of_the_shipped_test_sets_are_refused_without_a_list_of_splits(tmp_path: Path):
    (tmp_path / "meshdata").mkdir()
    for name in ("dexgraspnet-1k-test", "dexgraspnet-1k-val"):
        with pytest.raises(DataError, match="no model may be trained"):
            load_examples(load_bank(name), QUICK, tmp_path)
    ObjectLibrary(tmp_path).refuse_held_out(["embedded-mug-03", "cups/own.stl"])  # of no split


@pytest.mark.parametrize("damage", ["cut", "other", "missing", "nan", "config"])
def test_damaged_models_are_clear_errors(trained: Path, tmp_path: Path, damage: str):
    from safetensors.torch import load_file, save_file

    config, weights = (trained / CONFIG).read_text(), (trained / WEIGHTS).read_bytes()
    (tmp_path / CONFIG).write_text(config if damage != "config" else config.replace("cosine", "sine"))
    (tmp_path / WEIGHTS).write_bytes(weights[: len(weights) // 2] if damage == "cut" else weights)
    if damage == "missing":
        (tmp_path / WEIGHTS).unlink()
    if damage in ("other", "nan"):
        values = load_file(trained / WEIGHTS)
        name = sorted(values)[-1]
        values[name] = values[name][:-1] if damage == "other" else values[name] * float("nan")
        save_file(values, tmp_path / WEIGHTS)
    with pytest.raises(DataError, match=r"model\.safetensors|config\.json"):
        load_model(tmp_path)


def test_presets():
    paper = preset("paper")
    assert (paper.model.schedule, paper.model.code.rotation, paper.model.types) == (
        "linear", "euler", ("cylindrical", "planar", "spherical"),
    )  # fmt: skip
    with pytest.raises(SettingError, match="paper"):
        preset("papers")
    with pytest.raises(DataError, match="can't be read"):
        preset("nowhere.json")
    with pytest.raises(SettingError, match="no setting"):
        changed(paper, {"model.colour": "red"})
    for key, value, message in (
        ("train.failed", "failed.parquet", "^train.failed needs model.outcomes"),
        ("model.code.components", "30", "less than or equal to 22"), ("model.network.embedding", "2", "equal to 4"),
        ("train.seed", "9" * 20, "less than 2147483648"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=message):
            changed(paper, {key: value})
    with pytest.raises(SettingError, match=r"train\.steps"):
        changed(paper, {"train.steps": "-1"})


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    from simeval.cli import main

    def simeval(*arguments: object) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["train", *map(str, arguments)])
        return int(stop.value.code or 0)

    bank = load_bank("embedded")
    rows = [i for i, code in enumerate(bank.codes) if code in bank.codes[:20]]
    file = tmp_path / "set.parquet"
    vectors = bank.grasps.to_vectors()[rows]
    write_bank(file, bank.codes[rows].tolist(), bank.scales[rows].tolist(), bank.types[rows].tolist(), vectors)
    (tmp_path / "quick.json").write_text(QUICK.model_dump_json())
    what = ("diffusion", "--dataset", file, "--preset", tmp_path / "quick.json", "--set", "train.steps=3")
    assert simeval(*what, "--out", tmp_path / "model") == 0
    assert "weights: " in capfd.readouterr().err
    assert load_model(tmp_path / "model").config == QUICK.model
    assert simeval(*what, "--out", file) == 2
    assert simeval(*what, "--out", tmp_path / "b", "--device", "nowhere") == 2
    assert simeval(*what, "--out", tmp_path / "b", "--set", "train.stops=3") == 2
    assert simeval("magic", *what[1:], "--out", tmp_path / "b") == 2
    assert "diffusion" in capfd.readouterr().err


@pytest.mark.parametrize("name", shipped())
def test_weights_that_come_with_simeval(name: str):
    folder = weights_folder(name)
    made = json.loads((folder / CURVE).read_text())
    preset = Preset.model_validate(made["preset"] | {"model": load_model(folder).config.model_dump()})
    assert changed(PRESETS[name], {"train.failed": preset.train.failed}) == preset
    assert made["loss"][-1][0] == preset.train.steps
    jar = load_embedded("embedded-jar-04")
    kind = preset.model.types[0]
    many, few = (Diffusion(name, contact=False).generate(GraspRequest(jar, kind, count, 5)) for count in (4, 2))
    assert len(many) == 4
    np.testing.assert_allclose(many.joints[:2], few.joints, atol=1e-4)
    np.testing.assert_allclose(many.translation[:2], few.translation, atol=1e-4)


def test_each_sample_is_brought_to_touch_in_the_best_of_several_ways(trained: Path):
    jar = load_embedded("embedded-jar-04")
    one, two = (
        Diffusion(str(trained), contact=True, fits=6, rank="score").generate(GraspRequest(jar, "tip", count, 5))
        for count in (1, 2)
    )
    plain = Diffusion(str(trained), contact=True).generate(GraspRequest(jar, "tip", 2, 5))
    assert len(two) == 2
    np.testing.assert_allclose(one.translation[0], two.translation[0], atol=1e-4)  # others in the batch change nothing
    score = hold_scores(jar, GRASP_TYPES["tip"], two)
    np.testing.assert_allclose(two.score, score)
    deep = [measure(jar, two.rotation[i], two.translation[i], two.joints[i]) for i in range(2)]
    better = score >= hold_scores(jar, GRASP_TYPES["tip"], plain)  # the first way is `plain`'s
    assert all(b or d.object_mm <= DEEPEST.object for b, d in zip(better, deep, strict=True))
    for setting in ({"fits": 0, "contact": True}, {"spread": 0.5}):
        with pytest.raises(SettingError, match="must be from"):
            Diffusion(str(trained), **setting)
    with pytest.raises(SettingError, match="contact is false"):
        Diffusion(str(trained), contact=False, fits=2)


def test_all_weights_together_are_small():
    assert DEFAULT_PRESET in shipped()
    assert sum(f.stat().st_size for name in shipped() for f in weights_folder(name).iterdir()) < 30e6


def test_the_generator(trained: Path):
    jar = load_embedded("embedded-jar-04")
    request = GraspRequest(jar, "tip", 3, 5)
    plain, touching = Diffusion(str(trained)), Diffusion(str(trained), contact=True)
    grasps = plain.generate(request)
    np.testing.assert_array_equal(grasps.joints, plain.generate(request).joints)
    assert len(touching.generate(request)) == 3
    best = Diffusion(str(trained), contact=True, best_of=8, rank="score").generate(request)
    worse = hold_scores(jar, GRASP_TYPES["tip"], touching.generate(request))
    assert best.score is not None
    assert best.score.min() >= worse.min()
    mixed = plain.generate(GraspRequest(jar, None, 6, 5))
    assert len(mixed) == 6
    with pytest.raises(GraspError, match="not hook"):
        plain.generate(GraspRequest(jar, "hook", 1, 0))
    for setting in ({"steps": -1}, {"best_of": 0}):
        with pytest.raises(SettingError, match="must be from"):
            Diffusion(str(trained), **setting)
    with pytest.raises(SettingError, match="simeval train"):
        Diffusion("nowhere")
    assert len(plain.fingerprint) == 16
