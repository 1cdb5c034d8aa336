"""Write the suites that are made from grasps: `python -m simeval.benchmarks.make_suites --data DIR`.

The files it writes are committed: a suite is frozen, and a changed one gets a new version number here.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from simeval.bank import GraspBank, load_bank
from simeval.errors import DataError, SimevalError, clear_exit
from simeval.objects import DexGraspNetData, ObjectLibrary
from simeval.objects.grasp_files import GraspSet
from simeval.suites import Request, Suite
from simeval.taxonomy import GRASP_TYPES

Key = tuple[str, float, str]
"""Object code, scale, grasp type."""
FOLDER = Path(__file__).parent / "suites"
REFERENCES = ["replay", "open-hand", "random", "scoop"]
"""The ceiling and the floors."""
EMBEDDED_GRASPS = 60
"""Grasps in the default suite, about; with its references it is to take less than 3 minutes on 2 cores."""
PER_REQUEST = 2
TYPES_PER_OBJECT = 2
"""Few, so that the grasps are spread over many objects."""
PER_CONDITION = {"val": 1, "test": 4}
"""Grasps of one object, scale and type at most; so many that the test suite has over 1,500."""
BUDGET = 64
"""Tries of `energy` a condition, after which it counts as one that can't be grasped: tries × waves of the set."""


def released_suite(data: DexGraspNetData) -> Suite:
    """Return the suite of DexGraspNet's released grasps: one request for each object and scale."""
    return Suite(
        name="released", version=1, data_kind="real", bank="released", references=REFERENCES,
        description="The objects and scales of the grasps released with DexGraspNet (a mug, a banana, a "
        "bottle), as many grasps each as were released.",
        requests=_requests(data.grasps(code) for code in data.grasp_codes()),
    )  # fmt: skip


def tabletop_suite(data: DexGraspNetData) -> Suite:
    """Return the suite of UniDexGrasp's tabletop grasps."""
    return Suite(
        name="unidexgrasp", version=1, data_kind="real", bank="unidexgrasp", references=REFERENCES,
        description="The objects and scales of the tabletop grasps released with UniDexGrasp (a bottle, a "
        "spray can, a wooden block), as many grasps each as were released. Each of those was made for a "
        "pose of its own on the table; here as everywhere gravity acts against the object's one up "
        "direction, that of objects.csv.",
        requests=_requests(data.tabletop_grasps(code) for code in data.tabletop_codes()),
    )  # fmt: skip


def embedded_suite(held: Mapping[Key, int]) -> Suite:
    """Return the default suite: embedded objects that can be grasped, spread over families and types.

    Args:
        held: how many grasps the bank has, all of which were lifted, as `GraspBank.counts` gives them.
    """
    return Suite(
        name="embedded", version=1, data_kind="embedded", bank="embedded", references=REFERENCES,
        description="Embedded objects, no download: as many grasps of each type on each object as the bank "
        f"has, at most {PER_REQUEST}.",
        requests=choose(held),
    )  # fmt: skip


def split_suite(split: str, found: GraspBank) -> Suite:
    """Return the suite of a DexGraspNet split: what its data set shows to be feasible.

    As many grasps a condition as the set has, so that `replay` has them all, and at most `PER_CONDITION`.

    Args:
        split: "val" or "test".
        found: the split's own set, made by `energy` with a fixed budget of tries for each type.

    Raises:
        DataError: the set was made with another budget.
    """
    _check_budget(found)
    counts = found.counts()
    tried, kinds = _tried(found), found.meta["types"]
    conditions = len(tried) * len(kinds)
    left_out = ", ".join(
        f"{kind} {1 - sum((*key, kind) in counts for key in tried) / len(tried):.0%}" for kind in kinds
    )  # fmt: skip
    return Suite(
        name=f"dexgraspnet-{split}", version=1, data_kind="real", bank=f"dexgraspnet-1k-{split}",
        training="dexgraspnet-1k", references=[*REFERENCES, "energy"],
        description=f"DexGraspNet's {split} objects, {len({code for code, _ in tried})} of them, each at one scale "
        f"that suits a hand: every type of which `energy`, with a budget of {BUDGET} tries, found a grasp that holds. "
        f"{conditions - len(counts)} of {conditions} conditions ({1 - len(counts) / conditions:.1%}) are left out "
        f"({left_out}).",
        requests=[
            Request(object=c, scale=s, type=kind, count=min(PER_CONDITION[split], held))
            for (c, s, kind), held in sorted(counts.items())
        ],
    )  # fmt: skip


def uniform_suite(split: str, found: GraspBank) -> Suite:
    """Return the split's suite without that selection: every object with every type."""
    tried, kinds = _tried(found), sorted(GRASP_TYPES)
    return Suite(
        name=f"dexgraspnet-{split}-uniform", version=1, data_kind="real", bank=f"dexgraspnet-1k-{split}",
        training="dexgraspnet-1k", references=[*REFERENCES, "energy"],
        description=f"DexGraspNet's {split} objects, {len({code for code, _ in tried})} of them, each at one scale "
        "that suits a hand, with every type, whether or not it can be grasped like that. Its `replay` lacks the "
        "grasps that nobody found.",
        requests=[Request(object=c, scale=s, type=kind, count=1) for c, s in sorted(tried) for kind in kinds],
    )  # fmt: skip


def _check_budget(found: GraspBank) -> None:
    tries, waves = int(found.meta["settings"].get("tries", BUDGET)), int(found.meta["waves"])
    if found.meta["generator"] != "energy" or tries * waves != BUDGET:
        raise DataError(
            f"{found.source} was made by {found.meta['generator']} with {tries} tries × {waves} waves, a split's suite "
            f"needs energy and {BUDGET} in all: simeval dataset build -g energy --set tries=16 --waves 4"
        )


def _tried(found: GraspBank) -> list[tuple[str, float]]:
    """Objects and scales on which a set was built, those without a grasp included."""
    return [*found.objects(), *((code, scale) for code, scale, _ in found.meta["empty"])]


def choose(held: Mapping[Key, int], grasps: int = EMBEDDED_GRASPS) -> list[Request]:
    """Choose objects with at least 2 grasps until `grasps` are requested: rarest family first, then types."""
    objects: dict[tuple[str, float], dict[str, int]] = {}
    for (code, scale, kind), count in sorted(held.items()):
        objects.setdefault((code, scale), {})[kind] = min(count, PER_REQUEST)
    left = {key: kinds for key, kinds in objects.items() if sum(kinds.values()) >= 2}
    families: Counter[str] = Counter()
    types: Counter[str] = Counter()
    chosen: list[Request] = []
    while left and sum(r.count for r in chosen) < grasps:
        code, scale = min(left, key=lambda k: (families[_family(k[0])], -_rarity(left[k], types), k))
        held_types = left.pop((code, scale))
        kinds = dict(sorted(held_types.items(), key=lambda item: (types[item[0]], item[0]))[:TYPES_PER_OBJECT])
        chosen += [Request(object=code, scale=scale, type=kind, count=n) for kind, n in kinds.items()]
        families[_family(code)] += 1
        types.update(kinds)
    return sorted(chosen, key=lambda r: (r.object, r.scale, r.type))


def _rarity(kinds: Mapping[str, int], types: Counter[str]) -> float:
    """How much an object adds to the types that few of the chosen ones have."""
    return sum(count / (1 + types[kind]) for kind, count in kinds.items())


def _family(code: str) -> str:
    """Return the code without its last two digits: the random objects make a family a hundred."""
    return code[:-2]


def write_suite(suite: Suite, folder: Path = FOLDER) -> Path:
    """Write a suite as TOML, one line a request; return the file."""
    facts = {
        "name": suite.name, "version": suite.version, "description": suite.description,
        "data_kind": suite.data_kind, "protocols": suite.protocols, "references": suite.references,
        "bank": suite.bank, **({"training": suite.training} if suite.training else {}), "seed": suite.seed,
    }  # fmt: skip
    lines = ["# Written by `python -m simeval.benchmarks.make_suites`; requests are [object, scale, type, count]."]
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()]
    requests = (json.dumps([r.object, r.scale, r.type, r.count], ensure_ascii=False) for r in suite.requests)
    lines += ["requests = [", *(f"  {request}," for request in requests), "]"]
    file = folder / f"{suite.name}.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _requests(sets: Iterable[GraspSet]) -> list[Request]:
    """One request per object and scale, as many grasps as there are, sorted."""
    counts = Counter((found.code, float(scale)) for found in sets for scale in found.scales)
    return [Request(object=code, scale=scale, count=n) for (code, scale), n in sorted(counts.items())]


def main() -> None:
    """Write the suites whose grasps are there; say what is missing for the others."""
    parser = argparse.ArgumentParser(description="Write the suites that are made from grasps.")
    parser.add_argument("--data", type=Path, help="folder with DexGraspNet's data; default: SIMEVAL_DATA")
    library = ObjectLibrary(parser.parse_args().data)
    makers: dict[str, Callable[[], Suite]] = {
        "embedded": lambda: embedded_suite(load_bank("embedded").counts()),
        "dexgraspnet-val": lambda: split_suite("val", load_bank("dexgraspnet-1k-val")),
        "dexgraspnet-val-uniform": lambda: uniform_suite("val", load_bank("dexgraspnet-1k-val")),
        "dexgraspnet-test": lambda: split_suite("test", load_bank("dexgraspnet-1k-test")),
        "dexgraspnet-test-uniform": lambda: uniform_suite("test", load_bank("dexgraspnet-1k-test")),
        "released": lambda: released_suite(library.dexgraspnet),
        "unidexgrasp": lambda: tabletop_suite(library.dexgraspnet),
    }
    for name, make in makers.items():
        try:
            suite = make()
        except SimevalError as error:
            print(f"{name}: left as it is. {error}")
            continue
        print(f"{write_suite(suite)}: {suite.count} grasps, digest {suite.digest}")


if __name__ == "__main__":
    with clear_exit():
        main()
