"""The predictor: a few small networks over the features, their mean log-odds, and its file."""

import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simeval.configuration import read_weights
from simeval.errors import DataError
from simeval.files import completed, make_folder
from simeval.generators.predictor.features import COUNT, FEATURES_VERSION, features
from simeval.grasp import Array, GraspBatch
from simeval.objects.model import ObjectModel
from simeval.taxonomy import TAXONOMY_VERSION, GraspType

WIDTH, NETWORKS, DROP = 128, 5, 0.3
LARGEST = 4.0
"""Standardised features are clipped to ± this: the object may be unlike any seen."""
WEIGHTS = "predictor.safetensors"
VERSIONS = {"features": FEATURES_VERSION, "taxonomy": TAXONOMY_VERSION, "width": WIDTH}


class Predictor(NamedTuple):
    """Predicts whether a grasp holds six directions, is lifted, and is of the type asked for in both."""

    networks: list[nn.Sequential]
    mean: Tensor  # (COUNT,)
    spread: Tensor  # (COUNT,)
    fingerprint: str = ""  # of its file

    def standardise(self, found: Array) -> Tensor:
        """(N, COUNT) features to what the networks take."""
        return ((torch.tensor(found).float() - self.mean) / self.spread).clamp(-LARGEST, LARGEST)

    @torch.no_grad()
    def log_odds(self, found: Array) -> Array:
        """Log-odds (N,) that grasps with these features (N, COUNT) hold."""
        x = self.standardise(found)
        return torch.stack([network(x)[:, 0] for network in self.networks]).mean(0).double().numpy()

    def scores(self, model: ObjectModel, kind: GraspType, grasps: GraspBatch) -> Array:
        """Log-odds (N,) that grasps hold."""
        return self.log_odds(features(model, kind, grasps))

    def save(self, path: Path) -> None:
        """Write weights (half precision) and versions.

        Raises:
            DataError: it can't be written.
        """
        from safetensors.torch import save

        values = {"mean": self.mean, "spread": self.spread}
        for k, network in enumerate(self.networks):
            values |= {f"{k}.{name}": value.half() for name, value in network.state_dict().items()}
        make_folder(path.parent)
        with completed(path) as unfinished:
            content = {k: v.contiguous() for k, v in values.items()}
            unfinished.write_bytes(save(content, {"versions": json.dumps(VERSIONS)}))


def make_network() -> nn.Sequential:
    """Return one network with fresh weights."""
    return nn.Sequential(
        nn.Linear(COUNT, WIDTH), nn.GELU(), nn.Dropout(DROP), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(DROP),
        nn.Linear(WIDTH, 1),
    )  # fmt: skip


@lru_cache(maxsize=2)
def load_predictor(path: Path | None = None) -> Predictor:
    """Read a predictor; by default the one that comes with simeval.

    Raises:
        DataError: the file is missing, damaged, or of other features.
    """
    path = path or Path(str(files("simeval.generators.predictor").joinpath(WEIGHTS)))
    found = read_weights(path, "simeval train predictor")
    versions = found.metadata.get("versions", "{}")
    values = {name: torch.from_numpy(value).float() for name, value in found.tensors.items()}
    if versions != json.dumps(VERSIONS):
        raise DataError(f"{path} is of {versions}, this version of simeval has {json.dumps(VERSIONS)}: train it again")
    networks = [make_network() for _ in range(NETWORKS)]
    try:
        for k, network in enumerate(networks):
            prefix = f"{k}."
            own = {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
            network.load_state_dict(own)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return Predictor([network.eval() for network in networks], values["mean"], values["spread"], digest)
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{path} doesn't fit: {' '.join(str(error).split())[:200]}") from None
