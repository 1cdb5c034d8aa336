"""What a diffusion model is and how it is trained, as data; and the presets."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from simeval.configuration import change_values, first_problem, read_config
from simeval.errors import SettingError, unknown_name
from simeval.generators.diffusion.coding import CodeSpec
from simeval.generators.diffusion.network import NetworkSpec
from simeval.generators.diffusion.noise import Prediction, ScheduleName
from simeval.metrics.types import PAPER_TYPES
from simeval.taxonomy import GRASP_TYPES


class Sampling(BaseModel):
    """How a model is sampled where nothing else is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=0, ge=0)
    """Of the sampler; 0: as many as in training."""
    contact: bool = False
    """Whether the hand is brought up to the object and its fingers are closed until they touch."""
    guidance: float = Field(default=0.0, ge=0)
    """By the type and by that the grasp is to hold. Of 164 conditions of validation objects, `local` with 2.0 lifted 83
    and held in six directions 89 %, without 75 and 81 %, with 1.0 to 3.0 over 20 to 100 steps 77 to 85 and 84 to 89 %;
    `local-pca` lifted 77 %, without 76 %."""


class ModelConfig(BaseModel):
    """All that decides what a model's weights mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    types: tuple[str, ...] = tuple(GRASP_TYPES)
    """Types that it answers."""
    code: CodeSpec = CodeSpec()
    network: NetworkSpec = NetworkSpec()
    schedule: ScheduleName = "linear-zero-snr"
    steps: int = Field(default=50, ge=2)
    prediction: Prediction = "velocity"
    posture: Literal["reference", "zero"] = "reference"
    """The joints where the code has none: the type's reference posture, or all zero as the source system drew them."""
    outcomes: bool = False
    """Whether it is told that a grasp holds, or doesn't; it has seen both, and is asked for those that hold."""
    sampling: Sampling = Sampling()

    @property
    def local(self) -> bool:
        """Whether the denoiser sees the object from the hand."""
        return self.network.geometry == "field"

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        vectors = self.code.rotation == "6d" and self.code.translation == "centered" and self.code.scale == "spread"
        if self.local and not vectors:
            raise ValueError(
                "geometry field needs code.rotation 6d, code.translation centered and code.scale spread: what it "
                "predicts turns with the hand"
            )
        return self


class TrainConfig(BaseModel):
    """How weights come about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Literal["", "paper-28d", "commanded"] = ""
    """Types by this measure in place of those of the set; what has no type by it is left out."""
    steps: int = Field(default=20_000, ge=1)
    batch: int = Field(default=64, ge=1)
    objects: int = Field(default=8, ge=1)
    """Objects that share a batch evenly, each encoded once."""
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running mean of the weights that is kept; 0: the last weights."""
    basis: Literal["set", "batch"] = "set"
    """What main components of the joints are fitted to: the whole set once, or every batch anew, of which the last
    batch's is kept, as in the source system's code."""
    failed: str = ""
    """Bank of grasps that don't hold, for `model.outcomes`."""
    forget: float = Field(default=0.0, ge=0, lt=1)
    """Share of examples whose type and outcome aren't told, so that sampling can be guided by the difference."""
    guess: bool = False
    """Every other step, a local denoiser looks from where it guessed the grasp to be, as it does when sampling (Chen et
    al. 2023, "Analog bits", self-conditioning); else from the noised grasp."""
    points: float = Field(default=0.0, ge=0)
    """Weight of a second loss beside that of the prediction: the squared distance of the hand's parts from where they
    are in the clean grasp, over `train.POINT_SCALE` squared, times the squared signal. It tells how much each number
    matters: an error of the wrist's turn moves fingertips more than one of the last joint."""
    warm_up: int = Field(default=0, ge=0)
    """Steps over which the learning rate grows from 0."""
    decay: bool = False
    """Whether the learning rate then falls to 0 along a cosine."""
    clip: float = Field(default=0.0, ge=0)
    """Largest norm of a step's gradient; 0: any."""
    loss_as_gradient: bool = False
    """`loss.backward(loss)` as in the source system's code: each gradient is multiplied by its own loss."""
    seed: int = Field(default=0, ge=0, lt=2**31)


class Preset(BaseModel):
    """A model and its training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _outcomes_are_told(self) -> Self:
        if self.train.failed and not self.model.outcomes:
            raise ValueError("train.failed needs model.outcomes: else grasps that fail are learned as if they held")
        return self


def _paper(code: CodeSpec) -> Preset:
    """The source system's model: its schedule, Euler angles, metres, unsigned scaled map and three types.

    Its measure gives a type to 532 grasps of `dexgraspnet-1k`, over which `steps` goes 480 times, the source system
    200 to 250 times over its own.
    """
    model = ModelConfig(
        types=PAPER_TYPES, code=code, network=NetworkSpec("scaled-map"), schedule="linear", prediction="noise"
    )
    return Preset(model=model, train=TrainConfig(label="paper-28d", steps=4000, ema=0.0, loss_as_gradient=True))


def _ours(code: CodeSpec, width: int, steps: int, guidance: float = 0.0) -> Preset:
    """A local denoiser, told of the outcome."""
    model = ModelConfig(
        code=code, network=NetworkSpec("field", width=width, blocks=4), schedule="cosine", steps=100, outcomes=True,
        sampling=Sampling(steps=20, contact=True, guidance=guidance),
    )  # fmt: skip
    train = TrainConfig(
        steps=steps, batch=256, objects=256, learning_rate=5e-4, weight_decay=0.05, forget=0.15, guess=True,
        warm_up=200, decay=True, clip=1.0,
    )  # fmt: skip
    return Preset(model=model, train=train)


PRESETS: dict[str, Preset] = {
    "local": _ours(CodeSpec("angles", "6d", "centered", scale="spread"), 384, 12_000, guidance=2.0),
    "local-rt": _ours(CodeSpec("none", "6d", "centered", scale="spread"), 256, 8_000),
    "local-pca": _ours(CodeSpec("pca", "6d", "centered", 15, scale="spread"), 256, 8_000),
    "paper": _paper(CodeSpec("angles", "euler", "metric")),
    "paper-rt": _paper(CodeSpec("none", "euler", "metric")),
    "paper-pca": _paper(CodeSpec("pca", "euler", "metric", 15)),
}
"""Presets by name."""
DEFAULT_PRESET = "local"


def preset(name: str) -> Preset:
    """Return a preset by its name, or from the path of a .json file; "" is `DEFAULT_PRESET`.

    Raises:
        SettingError: there is no such preset.
        DataError: the file can't be read.
    """
    name = name or DEFAULT_PRESET
    if not name.endswith(".json"):
        if name not in PRESETS:
            raise unknown_name("preset", name, PRESETS, "A path to a .json file works too.")
        return PRESETS[name]
    return read_config(Path(name), TypeAdapter(Preset))


def changed(base: Preset, changes: dict[str, str]) -> Preset:
    """Return a preset with some values replaced: keys like `train.steps` or `model.code.rotation`, values as text.

    Raises:
        SettingError: there is no such key, or the value doesn't fit.
    """
    values = base.model_dump(mode="json")
    change_values(values, changes, lambda key: SettingError(
        f"no setting {key!r}; there are model.… and train.…, see config.json of any model"
    ))  # fmt: skip
    try:
        return Preset.model_validate(values)
    except ValidationError as error:
        raise SettingError(first_problem(error)) from None
