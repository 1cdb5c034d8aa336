"""Train the predictor on candidates that were simulated: those that hold, and those that don't."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from simeval.bank import GraspBank, load_bank
from simeval.errors import DataError, SettingError
from simeval.files import completed, json_text, make_folder
from simeval.generators.predictor.features import COUNT, FEATURES_VERSION, features
from simeval.generators.predictor.model import NETWORKS, WEIGHTS, Predictor, make_network
from simeval.grasp import Array
from simeval.objects import ObjectLibrary
from simeval.objects.model import ObjectModel
from simeval.records import digest_arrays
from simeval.taxonomy import grasp_type

STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 4000, 256, 2e-3, 0.1
FOLDS = 5
FEATURES, REPORT = "features.npz", "report.json"
SAVE_EVERY = 50  # objects


class Candidates(NamedTuple):
    """N grasps that were simulated."""

    features: Array  # (N, COUNT)
    holds: NDArray[np.bool_]  # (N,)
    objects: NDArray[np.str_]  # (N,) codes
    types: NDArray[np.str_]  # (N,)


def train_on(
    bank: GraspBank, preset_name: str, changes: dict[str, str], out: Path, data: Path | None = None,
    device: str = "cpu", progress: Callable[[str, int, int], None] | None = None,
) -> None:  # fmt: skip
    """Train on a set and on its candidates that didn't hold: what `simeval train predictor` calls.

    `changes` names these: `failed`, a bank. The features are kept in `out`, so that a stopped training resumes. Writes
    the weights and `report.json`: how well each fold of objects is told apart by networks that haven't seen it.

    Raises:
        SettingError: there are other settings, a preset, or another device than the CPU.
        DataError: a val or test object is among them, nothing to tell apart, or `out` can't be used.
    """
    if set(changes) != {"failed"} or preset_name:
        raise SettingError("the predictor has no presets and one setting: --set failed=FILE, a build's second file")
    if device != "cpu":
        raise SettingError(f"the predictor is small and trained on the cpu alone, found --device {device}")
    report = progress or (lambda what, done, total: None)
    failed = load_bank(changes["failed"], data)
    if len({*bank.codes.tolist(), *failed.codes.tolist()}) < 2:
        raise DataError(f"{bank.source} and {failed.source} are of one object; a predictor is tested on others")
    library = ObjectLibrary(data)
    library.refuse_held_out([*bank.codes.tolist(), *failed.codes.tolist()])
    found = _gather(bank, failed, library, out, lambda done, total: report("objects", done, total))
    if found.holds.all() or not found.holds.any():
        raise DataError("a predictor needs grasps that hold and grasps that don't")
    folds = _folds(found)
    odds = np.zeros(len(found.holds))
    for k, test in enumerate(folds):
        train = np.setdiff1d(np.arange(len(odds)), test)
        odds[test] = fit(found, train, 1).log_odds(found.features[test])
        report("steps", k + 1, FOLDS + 1)
    fit(found, np.arange(len(odds)), NETWORKS).save(out / WEIGHTS)
    with completed(out / REPORT) as unfinished:
        unfinished.write_text(json_text(_report(found, odds)))
    report("steps", FOLDS + 1, FOLDS + 1)


def fit(found: Candidates, rows: NDArray[np.intp], networks: int) -> Predictor:
    """Train networks on some of the candidates, each from its own seed."""
    x = found.features[rows]
    mean, spread = torch.tensor(x.mean(axis=0)).float(), torch.tensor(x.std(axis=0)).float() + 1e-6
    predictor = Predictor([], mean, spread)
    inputs, goal = predictor.standardise(x), torch.tensor(found.holds[rows]).float()
    for seed in range(networks):
        torch.manual_seed(seed)
        network = make_network()
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
        for _ in range(STEPS):
            chosen = torch.randint(len(inputs), (BATCH,))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(inputs[chosen])[:, 0], goal[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
        predictor.networks.append(network.eval())
    return predictor


def _gather(
    bank: GraspBank, failed: GraspBank, library: ObjectLibrary, out: Path, progress: Callable[[int, int], None]
) -> Candidates:
    """Compute the features of all candidates, object by object; what is done is kept in `out`."""
    make_folder(out)
    path = out / FEATURES
    known = _kept(path)
    keys = list(dict.fromkeys([*bank.objects(), *failed.objects()]))
    parts: list[Candidates] = []
    for done, (code, scale) in enumerate(keys):
        rows = [(source, source.rows(code, scale)) for source in (bank, failed)]
        name = f"{code}@{scale:g} {_contents(rows)}"
        holds = np.concatenate([np.full(len(own), source is bank) for source, own in rows])
        types = np.concatenate([source.types[own] for source, own in rows])
        if name not in known:
            model = library.load(code, scale)
            known[name] = np.concatenate([_features(model, source, own) for source, own in rows])
            if done % SAVE_EVERY == 0:
                _keep(path, known)
        parts.append(Candidates(known[name], holds, np.full(len(holds), code), types))
        progress(done + 1, len(keys))
    _keep(path, known)
    return Candidates(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _kept(path: Path) -> dict[str, Array]:
    """Features by object and contents of what was asked for."""
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} can't be read ({error}): delete it to start over") from None


def _keep(path: Path, known: dict[str, Array]) -> None:
    with completed(path) as unfinished:
        np.savez(unfinished, **known)  # type: ignore[arg-type]


def _contents(rows: list[tuple[GraspBank, NDArray[np.intp]]]) -> str:
    """16 hex digits that name an object's grasps, their types and what features are made of them."""
    parts = [np.array([FEATURES_VERSION])]
    for source, own in rows:
        grasps = source.grasps[own]
        parts += [source.types[own].astype("U"), grasps.rotation, grasps.translation, grasps.joints]
    return digest_arrays(*parts)


def _features(model: ObjectModel, bank: GraspBank, rows: NDArray[np.intp]) -> Array:
    """Features (R, COUNT) of some grasps of an object."""
    found = np.zeros((len(rows), COUNT))
    for kind in np.unique(bank.types[rows]).tolist():
        own = bank.types[rows] == kind
        found[own] = features(model, grasp_type(kind), bank.grasps[rows[own]])
    return found


def _folds(found: Candidates) -> list[NDArray[np.intp]]:
    """Rows of each fold; all candidates of an object are in one."""
    codes = np.unique(found.objects)
    fold = dict(zip(codes.tolist(), np.random.default_rng(0).permutation(len(codes)) % FOLDS, strict=True))
    own = np.array([fold[code] for code in found.objects.tolist()])
    return [np.flatnonzero(own == k) for k in range(FOLDS)]


def _report(found: Candidates, odds: Array) -> dict[str, dict[str, float]]:
    """How well grasps are told apart, by type, on objects that weren't trained on."""
    report = {}
    for kind in np.unique(found.types).tolist():
        rows = np.flatnonzero(found.types == kind)
        chosen = list(_mixed(found, rows))
        report[kind] = {
            "candidates": len(rows), "hold": float(found.holds[rows].mean()), "auc": auc(odds[rows], found.holds[rows]),
            "objects_with_both": len(chosen),
            "best_of_object_holds": float(np.mean([found.holds[own[np.argmax(odds[own])]] for own in chosen] or [0])),
            "any_of_object_holds": float(np.mean([found.holds[own].mean() for own in chosen] or [0])),
        }  # fmt: skip
    return report


def _mixed(found: Candidates, rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Rows of each object of which some grasps hold and some don't."""
    for code in np.unique(found.objects[rows]):
        own = rows[found.objects[rows] == code]
        if found.holds[own].any() and not found.holds[own].all():
            yield own


def auc(score: Array, positive: NDArray[np.bool_]) -> float:
    """Area under the curve: the share of pairs of a positive and a negative that are in the right order."""
    if positive.all() or not positive.any():
        return float("nan")
    from scipy.stats import mannwhitneyu

    pairs = float(positive.sum() * (~positive).sum())
    return float(mannwhitneyu(score[positive], score[~positive]).statistic / pairs)
