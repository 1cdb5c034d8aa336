"""From a stream of samples to decisions: sliding windows, smoothing, rejection, the first stable one."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from simeval.emg.models.store import Trained
from simeval.emg.quality import check_rate, find_fault
from simeval.emg.recordings import CHANNELS, LABELS, RATE
from simeval.errors import DataError
from simeval.grasp import Array

MESSAGE_VERSION = 1
QUIET, LOUD = 0.5, 4.0
"""A window is refused below the first multiple of the weakest training level on both channels, or above the second of
the strongest on either."""


class StreamSettings(BaseModel):
    """How posteriors become decisions."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    hop_s: float = Field(default=0.1, gt=0)
    smoothing: float = Field(default=0.5, ge=0, lt=1)
    """Weight of the past in the running mean of log-posteriors."""
    threshold: float = Field(default=0.6, ge=0, le=1)
    """Least smoothed probability of a decision; below it the window is rejected."""
    agreeing: int = Field(default=3, ge=1)
    """Decisions in a row for one grasp that make it stable."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One message. `label` is None where rejected."""

    version: int
    time_s: float  # end of the window, in the recording's time
    label: str | None
    probabilities: dict[str, float]  # smoothed; all alike where the window was refused
    rejected: bool
    reason: str | None  # not-finite, flat, clipped, mains, quiet, loud or unsure
    stable: bool
    compute_ms: float  # from the window's last sample to this decision

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))


class Stream:
    """Feeds on samples, as many at a time as there are, and yields a decision every `hop_s`.

    Args:
        trained: a classifier and the levels it was trained on.
        settings: see there.
        start_s: time of the first sample.
    """

    def __init__(self, trained: Trained, settings: StreamSettings | None = None, start_s: float = 0.0) -> None:
        self.settings = settings or StreamSettings()
        self.window = trained.window
        self._trained = trained
        self._hop = max(1, round(self.settings.hop_s * RATE))
        self._buffer = np.zeros((len(CHANNELS), 0))
        self._passed = 0  # samples before the buffer
        self._skip = 0  # samples still to come before the next window
        self._start = start_s
        self._log: Array | None = None  # smoothed log-posterior
        self._streak = 0
        self._last: str | None = None

    def push(self, samples: Array) -> Iterator[Decision]:
        """Take (2, M) samples [V]; yield a decision for each window that is complete now.

        Raises:
            DataError: not two channels.
        """
        if samples.ndim != 2 or len(samples) != len(CHANNELS):
            raise DataError(
                f"samples of shape {samples.shape}, expected ({len(CHANNELS)}, samples): a missing channel?"
            )
        self._buffer = np.concatenate([self._buffer, samples], axis=1)
        while True:
            skipped = min(self._skip, self._buffer.shape[1])
            self._buffer = self._buffer[:, skipped:]
            self._passed += skipped
            self._skip -= skipped
            if self._skip or self._buffer.shape[1] < self.window:
                return
            decision = self._decide(self._buffer[:, : self.window])
            self._skip = self._hop
            yield decision

    def _decide(self, window: Array) -> Decision:
        begun = time.perf_counter()
        reason = self._refusal(window)
        if reason is None:
            log = np.log(self._trained.classifier.predict_proba(window[None])[0] + 1e-6)
            keep = self.settings.smoothing
            self._log = log if self._log is None else keep * self._log + (1 - keep) * log
        else:
            self._log = None  # what was before a bad window says nothing about what comes after
        posterior = self._posterior()
        best = int(posterior.argmax())
        if reason is None and posterior[best] < self.settings.threshold:
            reason = "unsure"
        label = LABELS[best] if reason is None else None
        self._streak = 0 if label is None else self._streak + 1 if label == self._last else 1
        self._last = label
        at = self._start + (self._passed + self.window) / RATE
        return Decision(
            MESSAGE_VERSION, round(at, 6), label, dict(zip(LABELS, np.round(posterior, 6).tolist(), strict=True)),
            label is None, reason, self._streak >= self.settings.agreeing, 1e3 * (time.perf_counter() - begun),
        )  # fmt: skip

    def _refusal(self, window: Array) -> str | None:
        fault = find_fault(window)
        if fault:
            return fault.name
        level = window.std(axis=1)
        low, high = self._trained.levels
        if (level < QUIET * low).all():
            return "quiet"
        return "loud" if (level > LOUD * high).any() else None

    def _posterior(self) -> Array:
        if self._log is None:
            return np.full(len(LABELS), 1 / len(LABELS))
        p = np.exp(self._log - self._log.max())
        return p / p.sum()


def read_ndjson(lines: Iterable[str]) -> Iterator[tuple[float | None, Array]]:
    """Yield (time of the first sample or None, (2, M) samples) of lines `{"time": s, "ch1": [V, …], "ch2": […]}`.

    Numbers instead of lists are single samples, null is a missing one; `rate`, where given, must be 500.

    Raises:
        DataError: a line isn't that, a channel is missing, or times and numbers of samples disagree.
    """
    first: float | None = None
    count = 0
    for number, line in enumerate(_text(lines), 1):
        if not line.strip():
            continue
        values = _record(line, number)
        if "rate" in values:
            check_rate(_number(values["rate"], number), f"line {number}")
        samples = _samples(values, number)
        at = None if values.get("time") is None else _number(values["time"], number)
        if at is not None and not np.isfinite(at):
            raise DataError(f"line {number}: time {at} is not a time")
        if at is not None:
            first = at - count / RATE if first is None else first
            off = at - first - count / RATE
            if abs(off) > max(0.05, 0.02 * count / RATE):
                raise DataError(
                    f"line {number}: time {at:g} s, but {count} samples so far make {first + count / RATE:g} s at "
                    f"{RATE:g} Hz: wrong rate, or samples are lost"
                )
        yield at, samples
        count += samples.shape[1]


def _text(lines: Iterable[str]) -> Iterator[str]:
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise DataError(f"the input is not UTF-8 text: {error}") from None


def _record(line: str, number: int) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"line {number} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f'line {number}: expected {{"time": …, "ch1": …, "ch2": …}}')
    known = ("time", "rate", *CHANNELS)
    if unknown := [key for key in values if key not in known]:
        raise DataError(f"line {number}: unknown key {unknown[0]!r}. Available: {', '.join(known)}")
    if missing := [name for name in CHANNELS if name not in values]:
        raise DataError(f"line {number}: no {missing[0]!r}; it has {', '.join(values) or 'nothing'}")
    return values


def _samples(values: dict[str, Any], number: int) -> Array:
    parts = []
    for name in CHANNELS:
        value = values[name]
        cells = value if isinstance(value, list) else [value]
        parts.append([np.nan if cell is None else _number(cell, number) for cell in cells])
    if len(parts[0]) != len(parts[1]):
        raise DataError(f"line {number}: {len(parts[0])} samples of ch1 and {len(parts[1])} of ch2")
    return np.array(parts, dtype=np.float64)


def _number(value: Any, number: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"line {number}: {value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise DataError(f"line {number}: a number of {len(str(value))} digits is too large") from None
