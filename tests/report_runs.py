"""Runs that the tests of the report look at."""

import zlib
from pathlib import Path
from typing import Any

import fake_generators
import pytest

from simeval.cli import main
from simeval.commands.doctor import OBJECT
from simeval.physics.settings import Physics
from simeval.records import Outcome, TrialRecord
from simeval.store import RunStore

HOSTILE = "</script><img src=x onerror=window.hacked=1><b class=hostile>&amp;$\\frac\"'\u2028"
SUITE = f"""
name = "tiny"
version = 1
description = "for tests"
data_kind = "embedded"
protocols = ["lift"]
references = ["fingerprinted"]
requests = [["{OBJECT}", 1.0, "", 3], ["{OBJECT}", 0.9, "hook", 2]]
"""


def quick_run(out: Path) -> None:
    """Two generators on one object, with coarse physics: 10 trials, some of which fail."""
    out.mkdir(parents=True, exist_ok=True)
    suite = out / "tiny.toml"
    suite.write_text(SUITE)
    what = ["run", "-g", "steady", "--suite", str(suite), "--set", "spread=0.006", "--out", str(out), "--workers", "0"]
    with fake_generators.registered(), pytest.raises(SystemExit) as stop:
        main([*what, "--physics", "iterations=10", "--physics", "timestep=0.01"])
    assert not stop.value.code
    fake_generators.CALLS.clear()


def hostile_run(folder: Path) -> Path:
    """A run whose every text tries to be HTML, a script or mathematics."""
    return store(
        folder, [record("hostile", i, HOSTILE, Outcome.GENERATOR_FAILED, reason=HOSTILE) for i in range(3)], HOSTILE
    )


def store(folder: Path, records: list[TrialRecord], generator: str, **changes: Any) -> Path:
    """Write a run folder."""
    manifest = {
        "generator": generator, "variant": "", "suite": "tiny", "settings": {}, "data_kind": "embedded",
        "physics": Physics().as_dict(), "seed": 0, "versions": {},
    } | changes  # fmt: skip
    with RunStore.open(folder, manifest) as opened:
        for r in records:
            opened.append(r)
    return folder


def record(generator: str, number: int, code: str, outcome: str, **changes: Any) -> TrialRecord:
    """One record without a grasp."""
    values: dict[str, Any] = {
        "trial_id": f"{zlib.crc32((generator + code).encode()):08x}{number:08x}", "condition_id": f"{code}/{number}",
        "object_code": code, "scale": 1.0, "grasp_type": "", "index": number, "protocol": "lift", "physics": "p",
        "seed": 0, "outcome": outcome,
    }  # fmt: skip
    return TrialRecord(**values | changes)
