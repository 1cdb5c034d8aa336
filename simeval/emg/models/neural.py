"""Networks on spectrograms: training, calibration, posteriors."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simeval.emg.models.base import Tensors, check_labels, check_length
from simeval.emg.models.config import Augmentation, NetworkConfig
from simeval.emg.models.networks import make_network
from simeval.emg.models.store import window_samples
from simeval.emg.models.transfer import ROUNDS, believed, moved
from simeval.emg.recordings import CHANNELS, LABELS, RATE, Recordings
from simeval.errors import DataError
from simeval.grasp import Array

_CHUNK = 256
_AXES = (0, 3)
CALIBRATION_WEIGHT = 10
"""How often a calibration trial counts beside one that was moved onto it."""
SLOWER = 1 / 3
"""Learning rate of calibration, as a part of that of training."""


@dataclass(slots=True)
class _Source:
    """What `fit` saw, kept for `calibrate`; not saved."""

    images: Array
    targets: NDArray[np.intp]
    sessions: NDArray[np.str_]


class Network:
    """See `Classifier`. Training is the same on one machine for one seed; torch's own generator isn't touched."""

    def __init__(self, config: NetworkConfig, device: str = "cpu") -> None:
        self.config = config
        self._device = torch.device(device)
        self._networks: list[nn.Module] = []
        self._mean = self._deviation = np.zeros(0)
        self._source: _Source | None = None
        bands, frames = config.spectrogram.shape(config.samples)
        nothing = np.zeros((0, len(CHANNELS), bands, frames), dtype=np.float32)
        self._labelled = nothing, np.zeros(0, dtype=np.intp)  # standardised trials that self-training keeps

    def fit(self, train: Recordings, seed: int = 0, align: bool = False) -> None:
        """See `Classifier`."""
        check_labels(train, "training")
        train = train.latest(self.config.recent)
        images = self._images(train.signals)
        self._source = _Source(images, train.targets, train.sessions)
        self._refer(images)
        unit = self._aligned(images, train.sessions) if align else self._unit(images)
        self._labelled = unit, train.targets
        self._train(unit, train.targets, seed)

    def adapt(self, signals: Array) -> None:
        """See `Classifier`."""
        images = self._images(signals)
        self._refer(images)
        unit = self._unit(images)
        known, targets = self._labelled
        for turn in range(ROUNDS):
            chosen, guessed = believed(self._posteriors(signals, temperature=1.0))  # sharper ones tie at the top
            self._tune(np.concatenate([known, unit[chosen]]), np.concatenate([targets, guessed]), turn)

    def calibrate(self, trials: Recordings, seed: int = 0) -> None:
        """See `Classifier`.

        Raises:
            DataError: no trial of some grasp; `moved` is set, but the model was read from a file.
        """
        check_labels(trials, "calibration")
        images, targets = self._images(trials.signals), trials.targets
        self._refer(images)
        if self.config.calibration == "moved":
            self._anew(images, targets, seed)
            return
        self._labelled = self._unit(images), targets
        self._tune(*self._labelled, seed)

    def _tune(self, images: NDArray[np.float32], targets: NDArray[np.intp], seed: int) -> None:
        """Go on training, more slowly."""
        for member, network in enumerate(self._networks):
            self._steps(network, images, targets, seed * 1000 + member, self.config.calibration_steps, SLOWER)

    def _anew(self, images: Array, targets: NDArray[np.intp], seed: int) -> None:
        """Train on these trials and those of `fit` moved onto them."""
        source = self._source
        if source is None:
            raise DataError(
                "calibration 'moved' needs the training trials, which a saved model doesn't hold: use 'tuned'"
            )
        others = moved(source.images, source.targets, source.sessions, images, targets)
        images = np.concatenate([others, *[images] * CALIBRATION_WEIGHT])
        targets = np.concatenate([source.targets, *[targets] * CALIBRATION_WEIGHT])
        self._labelled = self._unit(images), targets
        self._train(*self._labelled, seed)

    def predict_proba(self, signals: Array) -> Array:
        """See `Classifier`. Where the network sees less than the trial: the geometric mean over its windows."""
        return self._posteriors(signals, self.config.temperature)

    @torch.no_grad()
    def _posteriors(self, signals: Array, temperature: float) -> Array:
        images = torch.from_numpy(self._unit(self._images(signals))).to(self._device)
        width = self.config.frames or images.shape[3]
        starts = range(0, images.shape[3] - width + 1, max(1, width // 2))
        total = torch.zeros(len(images), len(LABELS), device=self._device)
        for start in starts:
            window = images[..., start : start + width]
            members = [_posterior(network, window) for network in self._networks]
            total += torch.log(torch.stack(members).mean(dim=0) + 1e-6)
        return torch.softmax(total / len(starts) / temperature, dim=1).double().cpu().numpy()

    def tensors(self) -> Tensors:
        """See `Classifier`."""
        found = {"mean": self._mean.astype(np.float32), "deviation": self._deviation.astype(np.float32)}
        for number, network in enumerate(self._networks):
            for name, value in network.state_dict().items():
                found[f"{number}.{name}"] = value.float().cpu().numpy()
        return found

    def restore(self, tensors: Tensors) -> None:
        """See `Classifier`."""
        self._mean, self._deviation = (tensors[name].astype(np.float64) for name in ("mean", "deviation"))
        bands = self.config.spectrogram.shape(self.config.samples)[0]
        if self._mean.shape != (1, len(CHANNELS), bands, 1) or self._deviation.shape != self._mean.shape:
            raise ValueError(f"mean has shape {self._mean.shape}, expected {(1, len(CHANNELS), bands, 1)}")
        self._networks = []
        for number in range(self.config.members):
            network = self._fresh(0)
            state = network.state_dict()
            found = {name: torch.from_numpy(tensors[f"{number}.{name}"]) for name in state}
            try:
                network.load_state_dict({name: v.to(state[name].dtype).reshape(v.shape) for name, v in found.items()})
            except RuntimeError as error:
                raise ValueError(" ".join(str(error).split())[:200]) from None
            self._networks.append(network.to(self._device).eval())
        self._source = None

    # Images

    def _images(self, signals: Array) -> Array:
        """(N, C, bands, frames), not yet standardised."""
        check_length(signals, min(self.config.samples, window_samples(self.config)))
        return self.config.spectrogram(signals[:, :, : self.config.samples], RATE)

    def _refer(self, images: Array) -> None:
        self._mean, self._deviation = _statistics(images, self.config.standardise)

    def _unit(self, images: Array) -> NDArray[np.float32]:
        return ((images - self._mean) / self._deviation).astype(np.float32)

    def _aligned(self, images: Array, sessions: NDArray[np.str_]) -> NDArray[np.float32]:
        """Each session standardised by itself."""
        unit = np.empty(images.shape, dtype=np.float32)
        for session in np.unique(sessions):
            own = sessions == session
            mean, deviation = _statistics(images[own], self.config.standardise)
            unit[own] = (images[own] - mean) / deviation
        return unit

    # Training

    def _fresh(self, seed: int) -> nn.Module:
        config = self.config
        bands, _ = config.spectrogram.shape(config.samples)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make_network(config.architecture, len(CHANNELS), bands, config.width, len(LABELS))

    def _train(self, images: NDArray[np.float32], targets: NDArray[np.intp], seed: int) -> None:
        config = self.config
        steps = max(config.steps, round(config.epochs * len(images) / config.batch))
        self._networks = []
        for member in range(config.members):
            own = seed * 1000 + member
            network = self._fresh(own).to(self._device)
            self._steps(network, images, targets, own, steps)
            self._networks.append(network)

    def _steps(
        self, network: nn.Module, known: NDArray[np.float32], labels: NDArray[np.intp], seed: int, steps: int,
        slower: float = 1.0,
    ) -> None:  # fmt: skip
        """Train one network by so many steps, `slower` times the learning rate."""
        config, device = self.config, self._device
        images, targets = torch.from_numpy(known).to(device), torch.from_numpy(labels).to(device)
        draw = torch.Generator(device).manual_seed(seed)
        rate = slower * config.learning_rate
        optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=config.weight_decay)
        else:
            optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=config.weight_decay)
        schedule = None
        if config.schedule == "one-cycle":
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps + 1, pct_start=0.2)
        network.train()
        order = torch.empty(0, dtype=torch.int64, device=device)
        batch = min(config.batch, len(images))
        shares = _shares(config.augment, seed, steps)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _same_each_time():
            torch.manual_seed(seed)  # dropout draws from torch's generator
            for share in shares:
                if len(order) < batch:
                    order = torch.randperm(len(images), generator=draw, device=device)
                rows, order = order[:batch], order[batch:]
                seen, right = self._drawn(images[rows], draw), targets[rows]
                if share < 1:
                    others = torch.randperm(batch, generator=draw, device=device)
                    logits = network(share * seen + (1 - share) * seen[others])
                    loss = share * self._loss(logits, right) + (1 - share) * self._loss(logits, right[others])
                else:
                    loss = self._loss(network(seen), right)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if schedule:
                    schedule.step()
        if not torch.isfinite(loss):
            raise DataError("the network's loss is not finite: lower learning_rate")
        network.eval()

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)

    def _drawn(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """A batch as the network sees it in training."""
        if self.config.frames:
            starts = images.shape[3] - self.config.frames + 1
            first = torch.randint(starts, (len(images), 1), generator=draw, device=images.device)
            images = _frames(images, first + torch.arange(self.config.frames, device=images.device))
        return augmented(images, self.config.augment, draw) if self.config.augment else images


def augmented(images: Tensor, augment: Augmentation, draw: torch.Generator) -> Tensor:
    """(B, C, bands, frames), with gains, tilt, noise and a shift in time drawn for each trial."""
    count, channels, bands, frames = images.shape
    device = images.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, device=device)

    tilt = torch.linspace(-1, 1, bands, device=device)[:, None]
    gain = normal(count, 1, 1, 1) + normal(count, channels, 1, 1) + normal(count, channels, 1, 1) * tilt
    images = images + augment.gain * gain + augment.noise * normal(*images.shape)
    if augment.shift:
        by = torch.randint(-augment.shift, augment.shift + 1, (count, 1), generator=draw, device=device)
        images = _frames(images, (torch.arange(frames, device=device) + by).clamp(0, frames - 1))
    return images


def _shares(augment: Augmentation | None, seed: int, steps: int) -> list[float]:
    """What a trial keeps of itself at each step, when it is blended with another; 1: all."""
    if augment is None or not augment.mixup:
        return [1.0] * steps
    return np.random.default_rng(seed).beta(augment.mixup, augment.mixup, steps).tolist()


def _frames(images: Tensor, which: Tensor) -> Tensor:
    """Frames (B, M) of images (B, C, bands, frames)."""
    count, channels, bands, _ = images.shape
    return torch.gather(images, 3, which[:, None, None, :].expand(count, channels, bands, which.shape[1]))


def _statistics(images: Array, standardise: bool) -> tuple[Array, Array]:
    """Mean and deviation (1, C, bands, 1) over trials and frames; 0 and 1 where nothing is standardised."""
    mean = images.mean(axis=_AXES, keepdims=True)
    if not standardise:
        return np.zeros_like(mean), np.ones_like(mean)
    return mean, images.std(axis=_AXES, keepdims=True) + 1e-6


def _same_each_time() -> AbstractContextManager[None]:
    """On a GPU: one algorithm, whole single precision."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _posterior(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([torch.softmax(network(part), dim=1) for part in images.split(_CHUNK)])
