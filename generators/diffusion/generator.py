"""The diffusion generators: weights in, grasps out."""

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from simeval.devices import one_thread
from simeval.errors import GraspError, SettingError, unknown_name
from simeval.generator import GraspRequest
from simeval.generators.diffusion.config import DEFAULT_PRESET
from simeval.generators.diffusion.geometry import GeometryCode, Shape, describe
from simeval.generators.diffusion.model import CONFIG, WEIGHTS, GraspModel, load_model
from simeval.generators.fitting import check_spread, fit_all, nearby
from simeval.generators.ranking import DEEPEST, best_of_each, check_ranking, ranker
from simeval.grasp import GraspBatch
from simeval.objects.model import ObjectModel
from simeval.records import digest_arrays
from simeval.taxonomy import GRASP_TYPES


def shipped() -> list[str]:
    """Presets whose weights come with simeval."""
    folder = Path(str(files("simeval.generators.diffusion").joinpath("weights")))
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def weights_folder(name: str) -> Path:
    """Return the folder of a model that comes with simeval, or of the user's own.

    Raises:
        SettingError: there is neither.
    """
    if name in shipped():
        return Path(str(files("simeval.generators.diffusion").joinpath("weights", name)))
    if not Path(name).is_dir():
        raise unknown_name("weights", name, shipped(), "A folder that `simeval train diffusion` wrote works too.")
    return Path(name)


def content_digest(folder: Path) -> str:
    """16 hex digits that name a model's files."""
    return digest_arrays(*(np.frombuffer((folder / name).read_bytes(), dtype=np.uint8) for name in (CONFIG, WEIGHTS)))


class Diffusion:
    """Sample grasps from a denoising diffusion model of grasps, told the object's shape and the type.

    Settings: `weights`, a preset whose weights come with simeval or a folder that `simeval train` wrote, by default
    `preset`; `steps` of the sampler (0: as many as in training), `guidance` by the type and by that the grasp is to
    hold, and `contact`, bring the hand up to the object and close its fingers until they touch, as retrieval does: by
    default as the model's configuration says; `ancestral`, DDPM's rule in place of DDIM's; `best_of`, samples of which
    each returned grasp is the best by `rank`, one of `ranking`'s; `fits`, ways in which each sample is brought to
    touch, from where it is and from nearby, up to `spread` times as far as `fitting.nearby` goes: the best by `rank`,
    of those that aren't deep in the object, is the grasp.
    """

    preset = DEFAULT_PRESET

    def __init__(
        self, weights: str = "", steps: int | None = None, ancestral: bool = True,
        guidance: float | None = None, contact: bool | None = None, best_of: int = 1, rank: str = "blend",
        fits: int = 1, spread: float = 3.0,
    ) -> None:  # fmt: skip
        for name, value, least, most in (
            ("steps", steps or 0, 0, 100_000), ("best_of", best_of, 1, 100_000), ("fits", fits, 1, 100_000),
            ("guidance", guidance or 0.0, 0, 100),
        ):  # fmt: skip
            if not least <= value <= most:
                raise SettingError(f"{name} must be from {least} to {most}, found {value}")
        self.folder = weights_folder(weights or self.preset)
        self.model = kept_model(self.folder)
        usual = self.model.config.sampling
        self.steps = usual.steps if steps is None else steps
        self.contact = usual.contact if contact is None else contact
        self.guidance = usual.guidance if guidance is None else guidance
        self.ancestral, self.best_of, self.fits, self.spread = ancestral, best_of, fits, spread
        check_spread(spread)
        if fits > 1 and not self.contact:
            raise SettingError(f"fits={fits} are ways to bring a grasp to touch, and contact is false")
        check_ranking(rank)
        self.rank = ranker(rank if best_of * fits > 1 else "score")
        self.fingerprint = content_digest(self.folder) + self.rank.fingerprint

    def generate(self, request: GraspRequest) -> GraspBatch:
        """Return `count` grasps; of the type asked for, else of types drawn by seed.

        Raises:
            GraspError: the model doesn't answer this type.
        """
        types = self.model.config.types
        if request.grasp_type is not None and request.grasp_type not in types:
            raise GraspError(f"this model answers {', '.join(types)}, not {request.grasp_type}")
        rng = np.random.default_rng([0xD1F, request.seed])
        kinds = [request.grasp_type or str(rng.choice(types)) for _ in range(request.count)]
        found: list[GraspBatch] = [GraspBatch.empty()] * request.count
        for kind in dict.fromkeys(kinds):
            rows = [i for i, own in enumerate(kinds) if own == kind]
            grasps = self._sample(request.object, kind, len(rows), int(rng.integers(2**31)))
            for k, i in enumerate(rows):
                found[i] = grasps[k]
        return GraspBatch.concatenate(found)

    def _sample(self, model: ObjectModel, kind: str, count: int, seed: int) -> GraspBatch:
        shape = described(model, self.model.config.network.geometry)
        with one_thread():
            drawn = self.model.generate(
                shape, kind, count * self.best_of, seed, self.steps, self.ancestral, self.guidance
            )
        grasps = GraspBatch(*(value.double().numpy() for value in drawn))
        if self.fits > 1:
            grasps = nearby(grasps, self.fits, seed, self.spread)
        if self.contact:
            grasps = fit_all(model, grasps, [kind] * len(grasps))
        each = self.best_of * self.fits
        if each == 1:
            return grasps
        deepest = DEEPEST if self.fits > 1 else None
        return best_of_each(model, GRASP_TYPES[kind], grasps, self.rank, each, deepest)


class WristDiffusion(Diffusion):
    """Sample the wrist's pose alone; the joints are the type's reference posture."""

    preset = "local-rt"


class LatentDiffusion(Diffusion):
    """Sample the wrist's pose and the joints' main components."""

    preset = "local-pca"


@lru_cache(maxsize=4)
def kept_model(folder: Path) -> GraspModel:
    """Read a model, once a process. Errors as in `load_model`."""
    return load_model(folder)


@lru_cache(maxsize=16)
def described(model: ObjectModel, code: GeometryCode) -> Shape:
    """Describe an object, kept per process. Errors as in `describe`."""
    return describe(model, code)
