"""Every object by its code, wherever it comes from."""

import os
from collections import OrderedDict
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from simeval.errors import DataError, unknown_name
from simeval.objects.dexgraspnet import DexGraspNetData, near_codes
from simeval.objects.embedded import PREFIX, embedded_codes, load_embedded
from simeval.objects.mesh import SUFFIXES, load_mesh_object
from simeval.objects.model import ObjectModel

DEXGRASPNET_PREFIXES = ("core-", "sem-", "ddg-", "mujoco-")
SOURCES = ("embedded", "dexgraspnet")
DATA_VARIABLE = "SIMEVAL_DATA"
HELD_OUT = ("val", "test", "released")
"""Splits of DexGraspNet's objects that nothing may be trained on."""


def is_mesh(code: str) -> bool:
    """Whether an object's code is the path of a mesh file."""
    return Path(code).suffix.lower() in SUFFIXES


class ObjectLibrary:
    """Loads objects by code and keeps the last `size` of them.

    A code is an embedded object's (`embedded-mug-03`), a DexGraspNet object's (`core-mug-…`), or the path of
    a mesh file (`cup.stl`). `data` is the folder with DexGraspNet's data, or with `dexgraspnet/` in it; by
    default the one that the environment variable SIMEVAL_DATA names, if any. It is looked at when needed.
    """

    def __init__(self, data: str | Path | None = None, size: int = 64) -> None:
        given = data if data is not None else os.environ.get(DATA_VARIABLE) or None
        self.data = None if given is None else Path(given)
        self.size = size
        self._models: OrderedDict[tuple[str, float], ObjectModel] = OrderedDict()

    @cached_property
    def dexgraspnet(self) -> DexGraspNetData:
        """The DexGraspNet data.

        Raises:
            DataError: there is none; the message says how to name it.
        """
        if self.data is None:
            raise DataError(
                f"needs DexGraspNet's data: pass --data DIR or set {DATA_VARIABLE}=DIR (DIR has meshdata/ or "
                f"dexgraspnet/meshdata/). Without it there are {len(embedded_codes())} embedded objects."
            )
        return DexGraspNetData(self.data)

    def codes(self, source: str = "embedded", split: str | None = None) -> tuple[str, ...]:
        """Object codes of a source: `embedded`, or `dexgraspnet` (of one split or all)."""
        if source not in SOURCES:
            raise unknown_name("object source", source, SOURCES)
        if source == "dexgraspnet":
            return self.dexgraspnet.codes(split)
        if split is not None:
            raise DataError(f"embedded objects have no splits, asked for {split!r}")
        return embedded_codes()

    def load(self, code: str, scale: float = 1.0) -> ObjectModel:
        """Return an object at a scale (metres per unit of its mesh; 1 for embedded ones).

        Raises:
            SettingError: no object has this code; the message names the nearest.
            DataError: it needs data that isn't there, or its mesh is unusable.
        """
        key = (code, float(scale))
        if key not in self._models:
            self._models[key] = self._build(code, scale)
            while len(self._models) > self.size:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return self._models[key]

    def refuse_held_out(self, codes: Iterable[str]) -> None:
        """Check what is to be trained on; objects of the suites that results are reported on are never, whatever
        objects.csv says or where there is none.

        Raises:
            DataError: some objects are of a held-out split.
        """
        theirs = {code for code in codes if not (code.startswith(PREFIX) or is_mesh(code))}
        held_out = sorted(c for c in theirs if c in _tested() or self.dexgraspnet.split(c) in HELD_OUT)
        if held_out:
            raise DataError(
                f"{len(held_out)} objects are of the {', '.join(HELD_OUT)} splits, {held_out[0]} for one: no model may "
                "be trained on them. Build a set of dexgraspnet/train."
            )

    def summary(self) -> list[dict[str, Any]]:
        """One row per source: `source`, `path`, `objects`, `splits`, `grasps`, `tabletop_grasps`, `problem`.

        `splits` counts objects by split; the grasp columns count the objects that have any.
        """
        rows: list[dict[str, Any]] = [_row("embedded", "built in", len(embedded_codes()))]
        try:
            data = self.dexgraspnet
            splits: dict[str, int] = {}
            for code in data.codes():
                name = data.split(code) or "none"
                splits[name] = splits.get(name, 0) + 1
            row = _row("dexgraspnet", str(data.root), len(data.codes()))
            row |= {"splits": splits, "grasps": len(data.grasp_codes())}
            rows.append(row | {"tabletop_grasps": len(data.tabletop_codes())})
        except DataError as error:
            rows.append(_row("dexgraspnet", str(self.data or ""), 0) | {"problem": str(error)})
        return rows

    def _build(self, code: str, scale: float) -> ObjectModel:
        if code.startswith(PREFIX):
            return load_embedded(code, scale)
        if is_mesh(code):
            return load_mesh_object(code, scale)
        if self.data is None and not code.startswith(DEXGRASPNET_PREFIXES):
            raise unknown_name(
                "object", code, near_codes(code, embedded_codes()),
                f"There are {len(embedded_codes())} embedded ones; DexGraspNet's need --data DIR or "
                f"{DATA_VARIABLE}=DIR.",
            )  # fmt: skip
        known = (*self.dexgraspnet.codes(), *embedded_codes())
        if code not in known:
            more = f"There are {len(known):,} objects in all: `simeval objects` lists them."
            raise unknown_name("object", code, near_codes(code, known), more)
        return self.dexgraspnet.load(code, scale)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to a worker process without the cached models."""
        return ObjectLibrary, (self.data, self.size)


def _row(source: str, path: str, objects: int) -> dict[str, Any]:
    return {
        "source": source, "path": path, "objects": objects, "splits": {}, "grasps": 0, "tabletop_grasps": 0,
        "problem": "",
    }  # fmt: skip


@cache
def _tested() -> frozenset[str]:
    """Objects of the suites of held-out splits that come with simeval."""
    from simeval.suites import load_suite

    suites = ("released", *(f"dexgraspnet-{split}{way}" for split in ("val", "test") for way in ("", "-uniform")))
    return frozenset(request.object for name in suites for request in load_suite(name).requests)
