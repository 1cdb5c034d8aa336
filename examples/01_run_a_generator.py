"""Run a generator on a few conditions and print its rates.

A suite is a list of (object, scale, type, count); the first objects of a stored one will do. A run is a folder:
running this file again finds it there and simulates nothing.
"""

from simeval.report.summary import summarise
from simeval.run import RunSpec, execute_run
from simeval.store import read_run
from simeval.suites import load_suite


def main() -> None:
    """Run retrieval on two objects."""
    spec = RunSpec("retrieval", load_suite("embedded").subset(objects=2), settings={"neighbours": "3"}, workers=2)
    folder = execute_run(spec, lambda done, total: print(f"{done} of {total} trials", end="\r"))
    print(f"\n{folder}")
    for row in summarise([read_run(folder)]):
        if row.metric.endswith("success"):
            print(f"{row.metric:24} {row.value:4.0%}  95 % interval [{row.low:.0%}, {row.high:.0%}], {row.n} grasps")


if __name__ == "__main__":  # the workers of a run import this file
    main()
