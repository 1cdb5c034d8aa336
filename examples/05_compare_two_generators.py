"""Is one generator better than another? They met the same conditions, so compare condition by condition."""

from simeval.report.compare import compare_sides, sides
from simeval.report.compare_text import render_comparison
from simeval.run import RunSpec, execute_run
from simeval.store import Run, read_run
from simeval.suites import load_suite


def run(generator: str) -> Run:
    """Run a generator on the conditions that both get."""
    suite = load_suite("embedded").subset(objects=3)
    return read_run(execute_run(RunSpec(generator, suite, protocols=("lift",), workers=0)))


def main() -> None:
    """Compare a sampler that sees the shape with transfer from similar objects."""
    found = compare_sides(*sides(run("preshape"), run("retrieval")))
    [lift] = [row for row in found.rows if row.group_by == "all" and row.metric == "lift_success"]
    print(f"{found.a} − {found.b}: {100 * lift.difference:+.0f} points [{100 * lift.low:.0f}, {100 * lift.high:.0f}]")
    for flip in found.flips:
        if flip.success_changed:
            print(f"only one lifts {flip.object} by {flip.type}: {found.a} {flip.a}, {found.b} {flip.b}")
    print(render_comparison(found, "md"))  # all of it, as `simeval compare` prints it


if __name__ == "__main__":
    main()
