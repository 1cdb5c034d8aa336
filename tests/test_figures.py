import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import HOSTILE, record, store

from simeval.cli import main
from simeval.errors import DataError, SettingError
from simeval.physics.settings import Physics
from simeval.records import NAN, Outcome, TrialRecord
from simeval.report import figures
from simeval.report.figures import FIGURES, MOST_NAMES, Drawing, Trials, as_svg, check_formats, save, style
from simeval.report.summary import summarise
from simeval.store import Run, read_run

LIFTED, SLIPPED = Outcome.LIFTED, Outcome.SLIPPED
TYPES = ("tip", "hook")


def manifest(generator: str, **physics: float) -> dict[str, Any]:
    return {"generator": generator, "suite": "s", "physics": Physics(**physics).as_dict(), "versions": {}}  # type: ignore[arg-type]


def run(generator: str, held: int = 8, count: int = 12, codes: str = "embedded-ball-06", **physics: float) -> Run:
    """`count` trials in each protocol, the first `held` of which hold; those that don't have no type."""
    rng = np.random.default_rng(0)
    records = []
    for protocol in ("lift", "six-direction"):
        for i in range(count):
            good = i < held
            records.append(
                record(
                    f"{generator}{physics}{protocol}", i, codes, LIFTED if good else SLIPPED, protocol=protocol,
                    grasp_type=TYPES[i % 2], achieved_type=TYPES[i % 2] if good else "", slip_m=0.001 * i,
                    penetration_mm=0.5 * i, penetration_held_mm=0.4 * i if good else NAN, cpu_s=0.1 + 0.01 * i,
                    rotation=np.eye(3).ravel().tolist(), translation=[0.0, 0.0, 0.1 if i % 2 else -0.1],
                    joints=rng.uniform(0, 0.3, 22).tolist(),
                )
            )  # fmt: skip
    return Run(manifest(generator, **physics), records)


def drawn(name: str, *runs: Run) -> Drawing:
    with style():
        found = FIGURES[name](Trials(runs))
    assert found is not None
    return found


def annotations(drawing: Drawing, panel: int = 0) -> list[str]:
    return [text.get_text() for text in drawing.figure.axes[panel].texts]


def sweep() -> list[Run]:
    return [
        run("g", held, friction=friction, density=density)
        for held, friction, density in ((3, 0.6, 500.0), (6, 1.0, 500.0), (9, 3.0, 500.0), (12, 1.0, 1000.0))
    ]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = drawn(name, *sweep(), run("other"))
        svg = as_svg(found)
    assert found.name == name
    assert found.title
    assert found.caption.endswith(".")
    assert b"<svg" in svg[:2000]
    assert as_svg(drawn(name, *sweep(), run("other"))) == svg


@pytest.mark.parametrize("name", FIGURES)
def test_hostile_names_and_no_numbers_are_drawn(name: str) -> None:
    with style():
        for records in (
            [record("g", i, HOSTILE, HOSTILE, grasp_type=HOSTILE, achieved_type=HOSTILE) for i in range(3)],
            [record("g", 0, "o", LIFTED, rotation=[math.nan] * 9, translation=[0.0] * 3, joints=[0.0] * 22)],
        ):
            found = FIGURES[name](Trials([Run(manifest(HOSTILE), records)]))
            if found is not None:
                assert b"<b class" not in as_svg(found)


def test_rates_are_those_of_the_tables() -> None:
    runs = [run("a", 9), run("b", 4)]
    found = drawn("success_by_type", *runs)
    axes = found.figure.axes
    assert [ax.get_title() for ax in axes] == ["lift", "six-direction", "secure"]
    rows = {(r.generator, r.group): r for r in summarise(runs, "type") if r.metric == "lift_success"}
    for name, container in zip("ab", axes[0].containers, strict=True):
        line, _, [bars] = container
        assert container.get_label() == name
        assert line.get_xdata().tolist() == pytest.approx([100 * rows[name, t].value for t in sorted(TYPES)])
        reach = [segment[:, 0].tolist() for segment in bars.get_segments()]
        expected = [[100 * rows[name, t].low, 100 * rows[name, t].high] for t in sorted(TYPES)]
        np.testing.assert_allclose(reach, expected)


def test_objects_are_listed_the_hardest_first() -> None:
    records = [record("g", i, f"object-{k}", LIFTED if i < k else SLIPPED) for k in range(5) for i in range(4)]
    found = drawn("success_by_object", Run(manifest("g"), records))
    assert annotations(found) == ["0", "25", "50", "75", "100"]
    assert [t.get_text() for t in found.figure.axes[0].get_yticklabels()] == [f"object-{k}" for k in range(5)]


def test_sensitivity_needs_several_conditions() -> None:
    assert figures.sensitivity(Trials([run("g"), run("other", friction=0.6)])) is None
    found = drawn("sensitivity", *sweep(), run("other"))
    assert [ax.get_title() for ax in found.figure.axes[:-1]] == ["g"]  # the last one is the colour bar
    texts = [text.split("\n") for text in annotations(found)]
    assert [(t[0].split()[0], t[1]) for t in texts if len(t) > 1] == [
        ("25", "n = 12"), ("50", "n = 12"), ("100", "n = 12"), ("75", "n = 12"),
    ]  # fmt: skip
    assert [t.get_text() for t in found.figure.axes[0].get_yticklabels()] == ["0.6", "1", "3"]
    assert [t.get_text() for t in found.figure.axes[0].get_xticklabels()] == ["500 kg/m³", "1000 kg/m³"]


def test_confusion_counts_trials() -> None:
    found = drawn("type_confusion", run("g", held=8))
    ax = found.figure.axes[0]
    rows, columns = ([t.get_text() for t in labels] for labels in (ax.get_yticklabels(), ax.get_xticklabels()))
    assert rows == ["tip", "hook"]
    seen = {(text.get_position(), text.get_text()) for text in ax.texts if text.get_text()}
    at = {(columns.index(c) + 0.5, rows.index(r) + 0.5): n for r, c, n in (
        ("tip", "tip", "4"), ("hook", "hook", "4"), ("tip", "none", "2"), ("hook", "none", "2"))}  # fmt: skip
    assert seen == set(at.items())


def test_distributions_end_at_the_largest_number() -> None:
    found = drawn("penetration_and_slip", run("g"))
    commanded, held, slip = (ax.lines[0] for ax in found.figure.axes)
    assert (commanded.get_xdata()[-1], commanded.get_ydata()[-1]) == (5.5, 100)
    assert len(held.get_xdata()) == 8
    assert slip.get_xdata()[-1] == pytest.approx(11)


def test_wrists_are_seen_from_the_object() -> None:
    found = drawn("wrist_sphere", run("g"))
    where = np.asarray(found.figure.axes[0].collections[0].get_offsets())
    assert len(where) == 12  # one a grasp, not one a protocol
    np.testing.assert_allclose(np.sort(where[:, 1]), [-np.pi / 2] * 6 + [np.pi / 2] * 6, atol=0.05)


def test_generators_beyond_what_can_be_told_apart_are_counted() -> None:
    runs = [run(f"g{i:02d}", count=2) for i in range(MOST_NAMES + 3)]
    found = drawn("success_by_type", *runs)
    assert len(found.figure.axes[0].containers) == MOST_NAMES
    assert "3 more generators or settings are left out." in found.caption


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with style():
        files = save(drawn("joint_pca", run("g")), folder, ["png", "svg", "pdf"])
    assert [f.name for f in files] == ["joint_pca.png", "joint_pca.svg", "joint_pca.pdf"]
    assert [f.read_bytes()[:4] for f in files] == [b"\x89PNG", b"<?xm", b"%PDF"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't be written"), style():
        save(drawn("joint_pca", run("g")), tmp_path / "file" / "in", ["png"])
    assert check_formats([".PNG", "png", "svg"]) == ["png", "svg"]
    with pytest.raises(SettingError, match=r"'gif'.*pdf, png, svg"):
        check_formats(["gif"])


def test_figures_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = run("g")
    folder = store(tmp_path / "run", made.records, "g")
    assert read_run(folder).records
    out = tmp_path / "figures"
    with pytest.raises(SystemExit) as stop:
        main(["figures", str(folder), "--out", str(out), "--format", "png"])
    assert not stop.value.code
    names = {f.stem for f in out.iterdir()}
    assert names == set(FIGURES) - {"sensitivity"}
    assert "Success by type" in capfd.readouterr().out


def test_a_record_of_nothing_has_no_figure_of_numbers() -> None:
    bare = Run(manifest("g"), [TrialRecord(**vars_of(record("g", 0, "o", Outcome.GENERATOR_FAILED)))])
    with style():
        empty = [name for name, draw in FIGURES.items() if draw(Trials([bare])) is None]
    assert empty == [
        "sensitivity",
        "penetration_and_slip",
        "type_confusion",
        "wrist_sphere",
        "joint_pca",
        "cpu_cost",
    ]


def vars_of(r: TrialRecord) -> dict[str, Any]:
    return {name: getattr(r, name) for name in r.__slots__}
