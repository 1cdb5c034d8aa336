"""Wrist-pose noise: how a grasp fares when the wrist isn't exactly where it was meant to be."""

import re
from dataclasses import dataclass

import numpy as np

from simeval.errors import SettingError
from simeval.grasp import GraspBatch

_UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "rad": 1.0, "deg": np.pi / 180}


@dataclass(frozen=True, slots=True)
class PoseNoise:
    """Isotropic Gaussian noise; both numbers are root-mean-square lengths of the 3-d error."""

    translation_m: float = 0.0
    rotation_rad: float = 0.0

    @staticmethod
    def parse(text: str) -> "PoseNoise":
        """Read `5mm,5deg` (either part may be left out; units m, cm, mm, rad, deg).

        Raises:
            SettingError: the text says something else.
        """
        found: dict[str, float] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            match = re.fullmatch(r"(\d+\.?\d*(?:e-?\d+)?|\.\d+(?:e-?\d+)?)\s*(mm|cm|m|rad|deg)", part)
            kind = "rotation_rad" if match and match[2] in ("rad", "deg") else "translation_m"
            if not match or kind in found or not np.isfinite(float(match[1])):
                raise SettingError(f"pose noise {text!r}: can't read {part!r}; write for example 5mm,5deg")
            found[kind] = float(match[1]) * _UNITS[match[2]]
        return PoseNoise(**found)

    def __str__(self) -> str:
        return f"{1e3 * self.translation_m:g}mm,{np.degrees(self.rotation_rad):.4g}deg"

    def apply(self, batch: GraspBatch, seed: int) -> GraspBatch:
        """Return the batch with every wrist displaced, the draw given by `seed`; rotation about the palm's origin."""
        from scipy.spatial.transform import Rotation

        rng = np.random.default_rng([seed, 0x9E37])
        shift = rng.normal(size=(len(batch), 3)) * self.translation_m / np.sqrt(3)
        turn = rng.normal(size=(len(batch), 3)) * self.rotation_rad / np.sqrt(3)
        if not len(batch):
            return batch
        return batch.with_(
            rotation=Rotation.from_rotvec(turn).as_matrix() @ batch.rotation, translation=batch.translation + shift
        )
