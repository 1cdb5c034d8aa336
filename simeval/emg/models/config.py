"""What a classifier is, as data."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simeval.emg.features import FEATURES
from simeval.emg.recordings import RATE
from simeval.emg.spectrogram import SOURCE_SAMPLES, Spectrogram


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    samples: int = Field(default=SOURCE_SAMPLES, ge=125)
    """The first so many samples of a trial are used."""


class _Learner(_Config):
    recent: int = Field(default=0, ge=0)
    """How many trials of each grasp in each session, the last ones, are trained on; 0: all. Signals drift over a day:
    what comes later is like the latest."""


class ClassicalConfig(_Learner):
    """LDA or SVM on features."""

    kind: Literal["lda", "svm"] = "lda"
    features: tuple[str, ...] = Field(default=tuple(FEATURES), min_length=1)
    svm_c: float = Field(default=10.0, gt=0)


class Augmentation(BaseModel):
    """What is drawn anew for every trial of a batch; spectrograms are standardised, so 1 is a standard deviation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    noise: float = Field(default=0.5, ge=0)
    gain: float = Field(default=0.05, ge=0)
    """Of both channels together, of each, and of its spectrum's tilt."""
    shift: int = Field(default=2, ge=0)
    """Frames that a trial is moved in time at most."""
    mixup: float = Field(default=0, ge=0)
    """Trials are blended in pairs, and their labels (Zhang et al. 2018, ICLR), by shares from Beta(`mixup`, `mixup`);
    0: never."""


class NetworkConfig(_Learner):
    """A network on spectrograms and its training."""

    kind: Literal["network"] = "network"
    architecture: Literal["resnet18", "band-net"] = "band-net"
    width: int = Field(default=128, ge=4)
    spectrogram: Spectrogram = Spectrogram()
    standardise: bool = True
    """Each channel's band to mean 0 and deviation 1 over the training trials."""
    frames: int = Field(default=0, ge=0)
    """Frames that the network sees at a time, drawn at random in training; 0: the whole trial."""
    augment: Augmentation | None = Augmentation()
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=3e-3, gt=0)
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    weight_decay: float = Field(default=0.02, ge=0)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    batch: int = Field(default=64, ge=2)
    epochs: float = Field(default=20, ge=0)
    """Passes over the training trials at least."""
    steps: int = Field(default=300, ge=1)
    """Batches at least."""
    calibration: Literal["tuned", "moved"] = "tuned"
    """Go on with the target's trials, or anew with the training trials moved onto them as well."""
    calibration_steps: int = Field(default=100, ge=0)
    """Of going on, at a third of the learning rate."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the posteriors: below 1 surer. Blended trials leave a network less sure than it is right."""
    members: int = Field(default=1, ge=1)
    """Networks trained from different seeds; their posteriors are averaged."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        spectrogram = self.spectrogram
        if spectrogram.window > self.samples:
            raise ValueError(f"spectrogram.window: {spectrogram.window} samples, of {self.samples} that are used")
        frames = spectrogram.shape(self.samples)[1]
        if self.frames > frames:
            raise ValueError(f"frames: {self.frames}, but {self.samples} samples have {frames}")
        if spectrogram.kind == "log-power" and spectrogram.bands > spectrogram.bins(RATE):
            raise ValueError(f"spectrogram.bands: {spectrogram.bands}, of {spectrogram.bins(RATE)} bins")
        return self


class EnsembleConfig(_Config):
    """Several classifiers, the geometric mean of their posteriors."""

    kind: Literal["ensemble"] = "ensemble"
    parts: tuple[ClassicalConfig | NetworkConfig, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _parts_use_the_same(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not {"samples", "parts"} <= values.keys():
            return values
        alike = {"samples": values["samples"]}
        parts = [{**p, **alike} if isinstance(p, dict) else p.model_copy(update=alike) for p in values["parts"]]
        return {**values, "parts": parts}


Config = Annotated[ClassicalConfig | NetworkConfig | EnsembleConfig, Field(discriminator="kind")]
