"""How fast grasps are sampled on a CPU: `python -m simeval.benchmarks.sampling [--data DIR]`.

1,000 grasps of one object in a batch, and one at a time; a request of 16 for an object that has just been loaded, and a
second one; and the source system's loop, one grasp at a time with the object encoded again at every step. Networks run
in one thread; the distances to a new object, which libigl measures, in as many as there are cores. The objects are
embedded ones, or with --data real ones of dexgraspnet-test. Prints a Markdown table.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from simeval.benchmarks.study import markdown_table
from simeval.errors import clear_exit
from simeval.generator import GraspRequest
from simeval.generators.diffusion.coding import CodeSpec, fit_basis, fit_scale
from simeval.generators.diffusion.config import PRESETS
from simeval.generators.diffusion.generator import Diffusion, described, shipped
from simeval.generators.diffusion.geometry import describe
from simeval.generators.diffusion.model import GraspModel
from simeval.generators.field import make_grid
from simeval.metrics.distance import object_distance
from simeval.objects import ObjectLibrary, ObjectModel, load_embedded
from simeval.suites import load_suite

CODE = "embedded-jar-04"
OTHERS = tuple(f"embedded-{name}-0{k}" for name in ("bottle", "mug", "block", "tumbler", "hammer") for k in (0, 1))
SUITE, EVERY = "dexgraspnet-test", 37
"""A suite of real objects, and of its requests every so many-th, whose objects are taken."""
BATCH, REQUEST, LOOP = 1000, 16, 3
REPEATS = 3


def some_objects(data: Path | None) -> list[ObjectModel]:
    """Load real objects, or embedded ones where there is no `data`. Errors as of `ObjectLibrary.load`."""
    if data is None:
        return [load_embedded(code) for code in (CODE, *OTHERS)]
    library = ObjectLibrary(data)
    requests = load_suite(SUITE).requests[::EVERY]
    return [library.load(code, scale) for code, scale in dict.fromkeys((r.object, r.scale) for r in requests)]


def seconds(work: Sequence[Callable[[], object]]) -> float:
    """Return the median time of some pieces of work; the first isn't counted."""
    times = []
    for piece in work:
        start = time.perf_counter()
        piece()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def source_loop() -> float:
    """Return seconds a grasp of the source system's loop; speed doesn't depend on the weights, so they are fresh."""
    config = PRESETS["paper"].model
    codes = torch.randn(64, config.code.size)
    model = GraspModel.fresh(config, fit_scale(CodeSpec(), codes), fit_basis(torch.randn(64, 22), 15))
    shape = describe(load_embedded(CODE), config.network.geometry)
    packed, first = model.network.pack([shape]), torch.tensor([0])
    told = model.condition([config.types[0]])[None]

    @torch.no_grad()
    def one() -> None:
        x = torch.randn(1, config.code.size)
        for t in reversed(range(config.steps)):
            encoded = model.network.encode(packed, first)
            x = model.network(x, model.network.tell(torch.tensor([t]), told), encoded, first, None)[0]

    return seconds([lambda: [one() for _ in range(LOOP)]] * (1 + REPEATS)) / LOOP


def few(generator: Diffusion, models: Sequence[ObjectModel]) -> tuple[float, float]:
    """Return the median time of a request for an object of which nothing is kept, and of a second one."""
    for kept in (make_grid, object_distance, described):
        kept.cache_clear()
    kind = generator.model.config.types[0]
    work = [partial(generator.generate, GraspRequest(model, kind, REQUEST, 0)) for model in models]
    return seconds(work), seconds(work)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--weights", action="append", help="a preset or a folder; repeatable. Default: all shipped ones"
    )
    parser.add_argument("--data", type=Path, help="folder with DexGraspNet's data. Default: embedded objects")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known, *others = some_objects(options.data)
    loop = source_loop()
    rows = [["source's loop", "", "", f"{1 / loop:.2f}", "1", "", ""]]
    for weights in options.weights or shipped():
        for contact in (False, True):
            generator = Diffusion(weights, contact=contact)
            kind = generator.model.config.types[0]
            many, one = (
                seconds([partial(generator.generate, GraspRequest(known, kind, count, 0))] * (1 + REPEATS))
                for count in (BATCH, 1)
            )
            times = [few(generator, others) for _ in range(REPEATS)]
            first, again = np.median(times, axis=0)
            rates = [f"{BATCH / many:.0f}", f"{BATCH / many * loop:.0f}"]
            rows.append([weights, "yes" if contact else "no", f"{1 / one:.1f}", *rates, f"{first:.2f}", f"{again:.2f}"])
    headers = [
        "weights", "contact", "one at a time [grasps / s]", f"{BATCH} in a batch [grasps / s]", "times the loop",
        f"first request of {REQUEST} for an object [s]", "second [s]",
    ]  # fmt: skip
    data = "embedded" if options.data is None else f"real, {SUITE}"
    print(f"Grasps of one object ({data}), networks in one thread, weights loaded; medians of requests.\n")
    print(markdown_table(headers, rows))


if __name__ == "__main__":
    with clear_exit():
        main()
