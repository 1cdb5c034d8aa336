"""Noise schedules, what a denoiser predicts, and sampling."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Prediction = Literal["noise", "velocity", "sample"]
ScheduleName = Literal["linear", "linear-zero-snr", "cosine"]
FIRST_BETA, LAST_BETA = 1e-4, 0.02
"""Of the linear schedule, as in Ho et al. 2020 (doi 10.48550/arXiv.2006.11239), who have 1,000 steps."""
COSINE_OFFSET = 0.008  # Nichol & Dhariwal 2021, doi 10.48550/arXiv.2102.09672


class Schedule(NamedTuple):
    """A noised grasp is x_t = signal[t] · x_0 + noise[t] · ε, for t = 0 … T − 1 from least to most noise."""

    signal: Tensor  # (T,)
    noise: Tensor  # (T,)


def make_schedule(name: ScheduleName, steps: int) -> Schedule:
    """Return a schedule of `steps` steps.

    - `linear`: β from 1e-4 to 0.02. With 50 steps, as the source system has them, the last one still keeps 78 % of the
      signal's amplitude, and sampling from pure noise starts where training never was.
    - `linear-zero-snr`: the same, rescaled so that nothing is left of the signal at the last step (Lin et al. 2024, doi
      10.1109/WACV57701.2024.00532).
    - `cosine`: of Nichol & Dhariwal, rescaled likewise.
    """
    if name == "cosine":
        t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        angle = (t + COSINE_OFFSET) / (1 + COSINE_OFFSET) * torch.pi / 2
        start = torch.cos(torch.tensor(COSINE_OFFSET / (1 + COSINE_OFFSET) * torch.pi / 2, dtype=torch.float64))
        signal = torch.cos(angle) / start
    else:
        beta = torch.linspace(FIRST_BETA, LAST_BETA, steps, dtype=torch.float64)
        signal = torch.cumprod(1 - beta, 0).sqrt()
    if name != "linear":
        signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return Schedule(signal.float(), (1 - signal**2).sqrt().float())


def target(kind: Prediction, schedule: Schedule, t: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """What a denoiser is to predict (B, D) at steps `t` (B,)."""
    if kind == "noise":
        return noise
    if kind == "sample":
        return clean
    return schedule.signal[t, None] * noise - schedule.noise[t, None] * clean


def parts(
    kind: Prediction, schedule: Schedule, t: int | Tensor, noised: Tensor, predicted: Tensor
) -> tuple[Tensor, Tensor]:
    """Clean grasp and noise (B, D) that a prediction at step `t` stands for; one for all, or (B,).

    A prediction of noise says nothing about the clean grasp where no signal is left: there the signal counts as 1e-3.
    """
    a, s = (value.to(noised)[t, ...].unsqueeze(-1) for value in schedule)
    if kind == "velocity":
        return a * noised - s * predicted, s * noised + a * predicted
    if kind == "noise":
        return (noised - s * predicted) / a.clamp(min=1e-3), predicted
    return predicted, (noised - a * predicted) / s.clamp(min=1e-3)


def chosen_steps(total: int, steps: int) -> list[int]:
    """Which `steps` of `total` a sampler takes, evenly spread, the last and the first among them."""
    return torch.linspace(total - 1, 0, min(steps, total)).round().long().tolist()


def sample(
    denoise: Callable[[Tensor, int, Tensor | None], Tensor], start: Tensor, schedule: Schedule, kind: Prediction,
    steps: int, fresh: Callable[[int], Tensor] | None = None, limit: float | None = None,
) -> Tensor:  # fmt: skip
    """Sample by DDIM (Song et al. 2021, doi 10.48550/arXiv.2010.02502); with `fresh` noise, by DDPM's ancestral rule.

    Args:
        denoise: (x_t (B, D), t, the clean grasp (B, D) that the step before found) -> prediction (B, D).
        start: (B, D) pure noise.
        schedule: with T steps.
        kind: what `denoise` predicts.
        steps: how many of the T are taken, see `chosen_steps`.
        fresh: noise (B, D) of the k-th step taken; None: deterministic.
        limit: clean grasps are clipped to ± this at every step.
    """
    chosen = chosen_steps(len(schedule.signal), steps)
    x, found = start, None
    for k, t in enumerate(chosen):
        clean, noise = parts(kind, schedule, t, x, denoise(x, t, found))
        if limit is not None:
            clean = clean.clamp(-limit, limit)
            a, s = float(schedule.signal[t]), float(schedule.noise[t])
            noise = (x - a * clean) / max(s, 1e-3)
        if k + 1 == len(chosen):
            return clean
        found = clean
        a, s = float(schedule.signal[chosen[k + 1]]), float(schedule.noise[chosen[k + 1]])
        if fresh is None:
            x = a * clean + s * noise
            continue
        ratio = float(schedule.signal[t]) / a
        spread = min(s, s / float(schedule.noise[t]) * (max(0.0, 1 - ratio**2)) ** 0.5)
        x = a * clean + max(0.0, s**2 - spread**2) ** 0.5 * noise + spread * fresh(k)
    return x
