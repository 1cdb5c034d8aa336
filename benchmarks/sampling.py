"""How fast grasps are sampled on one CPU core: `python -m simeval.benchmarks.sampling [--data DIR]`.

Three ways: 1,000 grasps of one object in a batch; the first request of 16 for an object that has just been loaded; and
the source system's loop, one grasp at a time with the object encoded again at every step. Prints a Markdown table.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from simeval.benchmarks.study import markdown_table
from simeval.errors import clear_exit
from simeval.generator import GraspRequest
from simeval.generators.diffusion.coding import CodeSpec, fit_basis, fit_scale
from simeval.generators.diffusion.config import PRESETS
from simeval.generators.diffusion.generator import Diffusion, shipped
from simeval.generators.diffusion.geometry import describe
from simeval.generators.diffusion.model import GraspModel
from simeval.objects import ObjectModel, load_embedded

CODE = "embedded-jar-04"
OTHERS = tuple(f"embedded-{name}-0{k}" for name in ("bottle", "mug", "block", "tumbler", "hammer") for k in (0, 1))
BATCH, REQUEST, LOOP = 1000, 16, 3
REPEATS = 3


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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--weights", action="append", help="a preset or a folder; repeatable. Default: all shipped ones"
    )
    chosen = parser.parse_args().weights or shipped()
    torch.set_num_threads(1)
    loop = source_loop()
    rows = [["source's loop", "", f"{1 / loop:.2f}", "1", ""]]
    for weights in chosen:
        for contact in (False, True):
            generator = Diffusion(weights, contact=contact)

            def request(
                model: ObjectModel, count: int, kind: str = generator.model.config.types[0], made: Diffusion = generator
            ) -> Callable[[], object]:
                return lambda: made.generate(GraspRequest(model, kind, count, 0))

            many = seconds([request(load_embedded(CODE), BATCH)] * (1 + REPEATS))
            few = seconds([request(load_embedded(code), REQUEST) for code in OTHERS])
            rate = BATCH / many
            rows.append([weights, "yes" if contact else "no", f"{rate:.0f}", f"{rate * loop:.0f}", f"{few:.2f}"])
    headers = ["weights", "contact", "grasps / s", "times the loop", f"first request of {REQUEST} for an object [s]"]
    print(f"{BATCH} grasps of one object (embedded data), one core, weights loaded.\n")
    print(markdown_table(headers, rows))


if __name__ == "__main__":
    with clear_exit():
        main()
