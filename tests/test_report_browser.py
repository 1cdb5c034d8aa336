"""The report in a real browser, without a network."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import HOSTILE, hostile_run, quick_run, record, store

from simeval.cli import main
from simeval.hand import load_hand
from simeval.records import Outcome
from simeval.replay import run_folders
from simeval.report.report import Views, read_sources, report_page
from simeval.store import read_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="there is no chromium with its chromedriver"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and their report."""
    folder = tmp_path_factory.mktemp("report")
    quick_run(folder / "runs")
    hostile_run(folder / "runs" / "hostile")
    with pytest.raises(SystemExit) as stop:
        main(["report", str(folder / "runs"), "-o", str(folder / "report.html"), "--trials", "5", "--workers", "0"])
    assert not stop.value.code
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium")
    assert selenium
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1200,900",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The report, just opened; whatever it logs is an error."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    color_scheme(browser, "light")
    browser.get((folder / "report.html").as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready") == "yes")
    yield browser
    assert browser.get_log("browser") == []


def wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def color_scheme(browser: Any, name: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def cells(page: Any, column: str) -> list[str]:
    """Texts of a column of the trial table."""
    script = """const heads = [...document.querySelectorAll('#trials thead button')].map((b) => b.textContent);
        const at = heads.indexOf(arguments[0]);
        return [...document.querySelectorAll('#trials tbody tr')].map((row) => row.cells[at].textContent);"""
    return page.execute_script(script, column)


def colors(page: Any, selector: str = "#canvas") -> int:
    """How many different colours a canvas has."""
    script = """const c = document.querySelector(arguments[0]), seen = new Set();
        const copy = document.createElement('canvas'); copy.width = c.width; copy.height = c.height;
        const g = copy.getContext('2d', { willReadFrequently: true }); g.drawImage(c, 0, 0);
        const d = g.getImageData(0, 0, c.width, c.height).data;
        for (let i = 0; i < d.length; i += 4) if (d[i + 3]) seen.add((d[i] << 16) | (d[i + 1] << 8) | d[i + 2]);
        return seen.size;"""
    return page.execute_script(script, selector)


def picture(page: Any) -> str:
    return page.execute_script("return document.getElementById('canvas').toDataURL()")


def press(page: Any, selector: str, *keys: str) -> None:
    page.find_element("css selector", selector).send_keys(*keys)


def click(page: Any, selector: str) -> None:
    page.execute_script("document.querySelector(arguments[0]).click()", selector)


def show_lifted(page: Any) -> None:
    """Show a trial that held: it has all moments."""
    script = """return [...document.getElementById('trial').options].find((o) => o.text.includes('LIFTED')).value"""
    choose(page, "#trial", page.execute_script(script), "change")


def choose(page: Any, selector: str, value: str, event: str) -> None:
    script = """const e = document.querySelector(arguments[0]); e.value = arguments[1];
        e.dispatchEvent(new Event(arguments[2]));"""
    page.execute_script(script, selector, value, event)


def opening_time(browser: Any, file: Path) -> float:
    """Seconds until a page stands; the fastest of three, since other work may go on on this machine."""
    script = "return performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart"
    found = []
    for _ in range(3):
        browser.get(file.as_uri())
        found.append(browser.execute_script(script) / 1e3)
    return min(found)


def test_two_thousand_trials(browser: Any, tmp_path: Path) -> None:
    outcomes = (Outcome.LIFTED, Outcome.SLIPPED, Outcome.DROPPED)
    runs = [
        store(tmp_path / name, [record(name, i, f"object-{i % 50}", outcomes[i % k]) for i in range(1000)], name)
        for name, k in (("one", 2), ("two", 3))
    ]
    file = tmp_path / "report.html"
    file.write_text(report_page(read_sources(runs), Views(), []))
    assert file.stat().st_size < 1e6
    assert opening_time(browser, file) < 3
    assert len(cells(browser, "trial")) == 100
    choose(browser, "#filter-generator", "two", "change")
    click(browser, "#more")
    assert len(cells(browser, "trial")) == 600
    click(browser, "#more")
    assert set(cells(browser, "trial")) == {r.trial_id for r in read_run(runs[1]).records}
    assert browser.execute_script("return document.getElementById('more').hidden")
    assert browser.get_log("browser") == []


def test_opens_fast_without_fetching_anything(browser: Any, folder: Path) -> None:
    assert opening_time(browser, folder / "report.html") < 3
    names = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert [name for name in names if not name.startswith("data:")] == []
    assert browser.get_log("browser") == []


def test_every_trial_is_in_the_table(page: Any, folder: Path) -> None:
    records = [r for f in run_folders([folder / "runs"]) for r in read_run(f).records]
    assert sorted(text.split()[0] for text in cells(page, "trial")) == sorted(r.trial_id for r in records)


def test_filters(page: Any) -> None:
    total = len(cells(page, "trial"))
    outcomes = cells(page, "outcome")
    kinds = set(outcomes)
    assert len(kinds) > 1
    for outcome in kinds:
        choose(page, "#filter-outcome", outcome, "change")
        assert cells(page, "outcome") == [outcome] * outcomes.count(outcome)
    assert f"{outcomes.count(outcome)} of {total} trials" == page.find_element("id", "count").text
    click(page, "#filter-clear")
    press(page, "#filter-text", "hook", " steady")
    assert 0 < len(cells(page, "type")) < total
    assert set(cells(page, "type")) == {"hook"}
    assert all("steady" in name for name in cells(page, "generator"))
    press(page, "#filter-text", " no such trial")
    assert cells(page, "trial") == []
    click(page, "#filter-clear")
    assert len(cells(page, "trial")) == total


def test_sorting_puts_what_is_missing_last(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    heads = page.find_elements("css selector", "#trials thead button")
    slip = next(h for h in heads if h.text == "slip mm")
    slip.send_keys(Keys.ENTER)
    up = cells(page, "slip mm")
    page.execute_script("arguments[0].focus()", slip)
    slip.send_keys(Keys.SPACE)
    down = cells(page, "slip mm")
    numbers = [float(text) for text in up if text != "–"]
    assert len(set(numbers)) > 2
    assert "–" in up
    assert up == [*(f"{x:.1f}" for x in sorted(numbers)), *["–"] * up.count("–")]
    assert down == [*(f"{x:.1f}" for x in sorted(numbers, reverse=True)), *["–"] * up.count("–")]
    states = page.execute_script(
        "return [...document.querySelectorAll('#trials th')].map((t) => t.getAttribute('aria-sort'))"
    )
    assert sorted(states) == ["descending", *["none"] * (len(states) - 1)]


def test_the_3d_view_draws_and_turns_by_keyboard(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    show_lifted(page)
    assert colors(page) > 50  # shades of hand, object and floor
    achieved = picture(page)
    label = page.find_element("id", "canvas").get_attribute("aria-label")
    assert "squeeze complete, as achieved" in label
    click(page, "[data-part=commanded]")
    assert picture(page) != achieved
    assert "as commanded" in page.find_element("id", "canvas").get_attribute("aria-label")
    click(page, "[data-part=held]")
    assert picture(page) == achieved
    for keys in ((Keys.ARROW_LEFT,), (Keys.ARROW_UP,), ("+",)):
        before = picture(page)
        press(page, "#canvas", *keys)
        assert picture(page) != before
    click(page, "[data-part=reset]")
    assert picture(page) == achieved
    click(page, "[data-part=glass]")
    assert picture(page) != achieved
    press(page, "[data-part=slider]", Keys.HOME)
    assert "0.0" in page.find_element("css selector", "[data-part=words]").text


def test_play_runs_to_the_end(page: Any) -> None:
    show_lifted(page)
    last = int(page.find_element("css selector", "[data-part=slider]").get_attribute("max"))
    choose(page, "[data-part=slider]", str(last - 3), "input")
    click(page, "[data-part=play]")
    words = page.find_element("css selector", "[data-part=words]")
    wait(lambda: "the end" in words.text)
    wait(lambda: page.find_element("css selector", "[data-part=play]").text == "Play")


def test_a_trial_opens_from_the_table_and_from_its_picture(page: Any) -> None:
    buttons = page.execute_script(
        "return [...document.querySelectorAll('#trials td button')].map((b) => b.textContent)"
    )
    assert len(buttons) == 5
    for trial in buttons:
        page.execute_script(
            "[...document.querySelectorAll('#trials td button')].find((b) => b.textContent === arguments[0]).click()",
            trial,
        )
        assert trial in page.find_element("id", "command").text
        assert page.switch_to.active_element.get_attribute("id") == "canvas"
        assert colors(page) > 50
    failures = page.find_elements("css selector", "#failures button")
    assert failures
    page.execute_script("arguments[0].click()", failures[0])
    assert failures[0].get_attribute("data-trial") in page.find_element("id", "command").text
    assert failures[0].get_attribute("aria-pressed") == "true"
    assert colors(page, "#failures canvas") > 20


def test_kinematics_are_those_of_the_hand(page: Any) -> None:
    hand = load_hand()
    joints = np.random.default_rng(0).uniform(hand.lower, hand.upper)
    script = """const scenes = JSON.parse(document.getElementById('data').textContent).scenes;
        return Viewer.primitives(scenes.hand, [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], arguments[0]);"""
    found = page.execute_script(script, joints.tolist())
    rotation, translation = hand.primitive_transforms(joints)
    np.testing.assert_allclose([p["rotation"] for p in found], rotation.reshape(-1, 9), atol=1e-5)
    np.testing.assert_allclose([p["place"] for p in found], translation, atol=1e-6)


def test_text_of_runs_is_text(page: Any) -> None:
    assert page.execute_script(
        "return window.hacked === undefined && document.querySelectorAll('b.hostile').length === 0"
    )
    assert any(HOSTILE in text for text in cells(page, "object"))
    press(page, "#filter-text", "hostile")
    assert any(HOSTILE in text for text in cells(page, "reason"))
    assert page.execute_script("return document.images.length") == page.execute_script(
        "return document.querySelectorAll('figure img[src^=\"data:image/svg\"]').length"
    )


def test_comparison_is_with_the_one_chosen(page: Any) -> None:
    script = "return [...document.getElementById('baseline').options].map((o) => o.value)"
    names = page.execute_script(script)
    assert len(names) >= 2
    for name in names:
        choose(page, "#baseline", name, "change")
        script = "return [...document.querySelectorAll('#comparison tbody tr')].map((r) => r.cells[0].textContent)"
        compared = page.execute_script(script)
        assert compared
        assert name not in compared


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_can_be_read(page: Any, scheme: str) -> None:
    color_scheme(page, scheme)
    found = page.execute_script("""const of = (e, k) => getComputedStyle(e)[k].match(/\\d+/g).map(Number);
        const dim = document.querySelector('.dim'), link = document.querySelector('nav a');
        return [of(document.body, 'backgroundColor'), of(document.body, 'color'), of(dim, 'color'), of(link, 'color'),
                of(document.querySelector('td.good'), 'color')];""")
    paper, *inks = (luminance(c) for c in found)
    assert (paper > 0.5) == (scheme == "light")
    assert all(max(paper + 0.05, ink + 0.05) / min(paper + 0.05, ink + 0.05) >= 4.5 for ink in inks)  # WCAG 2.1 AA


def luminance(color: list[int]) -> float:
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_a_phone_shows_it_without_scrolling_sideways(page: Any) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wait(lambda: page.execute_script("return innerWidth") == 360)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    assert page.execute_script("return document.getElementById('canvas').getBoundingClientRect().width") > 300
    assert colors(page) > 50


def test_everything_has_a_name(page: Any) -> None:
    page.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = ("button", "checkbox", "combobox", "link", "searchbox", "slider", "image")
    named = [
        (n["role"]["value"], n.get("name", {}).get("value")) for n in nodes
        if not n.get("ignored") and n.get("role", {}).get("value") in roles
    ]  # fmt: skip
    assert len(named) > 30, json.dumps(named)
    assert [pair for pair in named if not pair[1]] == []
    page.execute_cdp_cmd("Accessibility.disable", {})
