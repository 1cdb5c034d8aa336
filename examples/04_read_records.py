"""Read stored trials again and compute what no table shows: here by contacts, with intervals that know objects.

Rates are over all requested grasps. Missing numbers (the slip of a grasp that never came) are NaN.
"""

import math

from simeval.records import Outcome
from simeval.run import RunSpec, execute_run
from simeval.stats import Estimate, clustered_mean, rate
from simeval.store import read_run
from simeval.suites import load_suite


def show(what: str, found: Estimate, unit: str = "") -> None:
    """Print an estimate with how it was made."""
    print(f"{what}: {found.value:.2f}{unit} [{found.low:.2f}, {found.high:.2f}], n = {found.n}, {found.method}")


def main() -> None:
    """Ask a small run three questions."""
    suite = load_suite("embedded").subset(objects=3)
    spec = RunSpec("preshape", suite, protocols=("lift",), workers=0)  # 0: in this process
    records = read_run(execute_run(spec)).records
    objects = [r.object_code for r in records]

    show("lifted", rate([r.success for r in records], objects))
    with_thumb = [r for r in records if "thdistal" in r.contacts.split(",")]
    show("lifted, of those the thumb's tip touches",
         rate([r.success for r in with_thumb], [r.object_code for r in with_thumb]))  # fmt: skip
    slips = [1e3 * r.slip_m if r.outcome == Outcome.LIFTED else math.nan for r in records]  # NaN is left out
    show("slip of those lifted", clustered_mean(slips, objects, least=0.0), " mm")


if __name__ == "__main__":
    main()
