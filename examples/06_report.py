"""Write a report: one HTML file with tables, figures, all trials, and some of them in 3D."""

from pathlib import Path

from simeval.report.figures import as_picture, draw_figures
from simeval.report.report import choose_trials, make_views, read_sources, report_page
from simeval.report.summary import records_by_name
from simeval.run import RunSpec, execute_run
from simeval.suites import load_suite


def main() -> None:
    """Run two generators and report on them."""
    suite = load_suite("embedded").subset(objects=3)
    folders = [execute_run(RunSpec(name, suite, protocols=("lift",), workers=0)) for name in ("scoop", "preshape")]

    sources = read_sources(folders)
    runs = [source.run for source in sources]
    views = make_views(
        sources, choose_trials(records_by_name(runs), count=2), workers=0
    )  # run again, to see what moves
    page = report_page(sources, views, [as_picture(d) for d in draw_figures(runs)], title="Scoop and preshape")
    Path("report.html").write_text(page, encoding="utf-8")
    print(f"report.html: {len(page) / 1e6:.1f} MB, {len(views.trials)} trials in 3D")


if __name__ == "__main__":
    main()
