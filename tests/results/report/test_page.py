"""The report in a browser: silent, offline, sortable, filterable, readable, usable by keyboard and on a phone."""

import itertools

import pytest
from support.fabricated import grid, tune, write

from sam_bench.results.report.page import report
from sam_bench.store import index

pytestmark = pytest.mark.chromium

# WCAG 2.2, 1.4.3: contrast of every visible text with what is really behind it.
CONTRAST = """
() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, node = text.parentElement, style = getComputedStyle(node);
    const unseen = ['SCRIPT', 'STYLE', 'TITLE', 'title'].includes(node.tagName) || !node.checkVisibility();
    if (unseen || !text.textContent.trim()) continue;
    const inSvg = node instanceof SVGElement;
    const [a, b] = [light(parse(inSvg ? style.fill : style.color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push([ratio.toFixed(2), node.tagName, text.textContent.trim().slice(0, 40)]);
  }
  return found;
}
"""


def column(page, selector, number):
    return page.locator(f"{selector} tbody tr:visible > :nth-child({number})").all_inner_texts()


def test_a_header_sorts_by_the_number_behind_the_text_and_back(visit):
    page = visit()
    table = "#results .scroll:nth-of-type(2) table"  # bbbp, below the overview
    assert column(page, table, 1) == ["erm", "sam", "looksam", "vsam", "gsam", "fsam"]
    header = page.locator(f"{table} thead th:nth-child(2)")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    rising = column(page, table, 1)
    assert rising[0] == "vsam"
    assert rising[-1] == "fsam"  # it has no number
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    falling = column(page, table, 1)
    assert falling[:-1] == rising[:-1][::-1]
    assert falling[-1] == "fsam"
    page.locator(f"{table} thead th:nth-child(1) button").click()
    assert header.get_attribute("aria-sort") is None
    assert column(page, table, 1) == sorted(rising)


def test_filtering_results(visit):
    page = visit()
    page.fill("#filter-results", "esol LOOK")
    assert page.locator("#results tbody tr:visible").count() == 2  # of the results, and of the time to target
    assert page.inner_text("#filter-results-count") == "2 of 33 rows"
    assert page.locator("#results table:visible").count() == 2
    page.fill("#filter-results", "")
    assert page.locator("#results tbody tr:visible").count() == 33


def test_filtering_sorting_and_paging_runs(visit):
    page = visit()
    assert page.inner_text("#filter-runs-count") == "67 of 67 runs"
    assert page.locator("#run-table tbody tr").count() == 25
    page.click("#more-runs")
    page.click("#more-runs")
    assert page.locator("#run-table tbody tr").count() == 67
    assert not page.is_visible("#more-runs")
    page.select_option("#filter-status", "failed")
    assert column(page, "#run-table", 6) == ["fsam"]
    page.select_option("#filter-status", "")
    page.fill("#filter-runs", "esol vsam")
    assert column(page, "#run-table", 7) == [str(seed) for seed in range(8)]
    page.click("#run-table thead th:nth-child(7) button")
    page.click("#run-table thead th:nth-child(7) button")
    assert column(page, "#run-table", 7) == [str(seed) for seed in reversed(range(8))]


def test_a_run_opens_and_closes_by_keyboard(visit):
    page = visit()
    name = page.locator("#run-table tbody button").first
    name.focus()
    page.keyboard.press("Enter")
    details = page.locator("#details")
    assert details.is_visible()
    text = details.inner_text()
    for part in (
        "sam-bench run",
        "optimizer.rho",
        "0.05",
        "commit",
        "0123456789abcdef",
        "split_sha256",
        "test/roc_auc",
    ):
        assert part in text, part
    page.keyboard.press("Escape")
    assert not details.is_visible()
    assert page.evaluate("document.activeElement.textContent") == name.inner_text()


def test_a_failed_run_shows_its_error(visit):
    page = visit()
    page.select_option("#filter-status", "failed")
    page.click("#run-table tbody button")
    assert "FloatingPointError" in page.inner_text("#details")


def test_charts_follow_the_choices(visit):
    page = visit()
    assert page.locator("#chart-curves .mark").count() == 5
    assert page.locator("#chart-differences .mark").count() == 4
    assert "roc_auc over epoch" in page.get_attribute("#chart-curves svg", "aria-label")
    page.get_by_role("checkbox", name="vsam").uncheck()
    assert page.locator("#chart-curves .mark").count() == 4
    page.select_option("#chart-clock", "train_seconds")
    assert "training seconds" in page.get_attribute("#chart-cost svg", "aria-label")
    page.select_option("#chart-block", label="esol / grover / adam")
    assert "rmse" in page.get_attribute("#chart-curves svg", "aria-label")
    assert page.locator("#chart-curves .mark").count() == 3


def test_sharpness_is_drawn_where_it_was_measured(visit):
    page = visit()
    assert page.locator("#sharpness-block option").all_inner_texts() == ["bbbp / grover / adam"]
    assert page.locator("#sharpness-gap .mark").count() == 12
    assert page.locator("#sharpness-traces .mark").count() == 3
    assert page.locator("#sharpness-planes figure").count() == 3
    page.select_option("#sharpness-measure", "trace")
    assert "Hessian trace" in page.get_attribute("#sharpness-gap svg", "aria-label")
    page.select_option("#sharpness-trace", "cos_g")
    assert "cosine of g and the last g" in page.get_attribute("#sharpness-traces svg", "aria-label")
    page.locator("#sharpness-gap .mark").last.focus()
    assert page.inner_text("#sharpness .point").startswith("looksam, seed 6: Hessian trace")
    assert "Point at a mark" in page.inner_text("#chart-point")
    assert "training loss" in page.get_attribute("#sharpness-planes svg", "aria-label")


def test_tuning_is_drawn_where_there_is_a_study(browser, visit, tmp_path, monkeypatch):
    assert not visit().locator("#tuning").is_visible()
    monkeypatch.setenv("SAM_BENCH_RESULTS", str(tmp_path))
    records = tune(tmp_path, grid(("erm", "sam", "vsam"), seeds=range(2)))
    for record in records:
        write(tmp_path, record)
    loaded = index.load(tmp_path, [record["run_id"] for record in records])
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report({"tuned": loaded}, tmp_path / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#tuning-curves .mark").count() == 3
    assert page.locator("#tuning-points .mark").count() == 2 * 4  # erm has no rho
    page.select_option("#tuning-option", "base.lr")
    assert page.locator("#tuning-points .mark").count() == 3 * 4
    page.select_option("#tuning-clock", "grad_evals")
    assert "gradient evaluations" in page.get_attribute("#tuning-curves svg", "aria-label")
    assert said == []
    page.close()


def test_marks_say_their_numbers_when_reached_by_keyboard(visit):
    page = visit()
    page.locator("#chart-arms input").last.focus()
    page.keyboard.press("Tab")
    said = page.inner_text("#chart-point")
    assert said.startswith("erm: valid/roc_auc 0.")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == said


def test_everything_that_can_be_clicked_is_reached_by_tab(visit):
    page = visit()
    reached = set()
    for _ in range(300):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if page.evaluate("document.activeElement === document.body"):
            break
    assert {
        "theme",
        "filter-results",
        "chart-block",
        "chart-clock",
        "sharpness-measure",
        "filter-runs",
        "filter-status",
        "more-runs",
    } <= reached
    assert {"A", "SUMMARY", "BUTTON", "INPUT", "path", "PRE"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_all_text(visit, scheme):
    page = visit(color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    page.locator("details").first.evaluate("node => node.open = true")
    page.click("#run-table tbody button")
    assert page.evaluate(CONTRAST) == []


def test_contrast_is_really_measured(visit):
    page = visit()
    page.evaluate("document.querySelector('h1').style.color = '#bbbbbb'")
    assert [hit[1] for hit in page.evaluate(CONTRAST)] == ["H1"]


def test_the_theme_can_be_chosen(visit):
    page = visit(color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.click("#theme")
    assert page.evaluate(paper) == light
    page.click("#theme")
    assert page.evaluate(paper) != light
    assert page.inner_text("#theme") == "Theme: dark"


def test_a_phone_scrolls_tables_not_the_page(visit):
    page = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator("#chart-curves svg").bounding_box()
    drawn = float(page.get_attribute("#chart-curves svg", "viewBox").split()[2])
    assert 13 * box["width"] / drawn > 11  # letters in px
    page.tap("#run-table tbody button")
    assert page.is_visible("#details")


def test_without_scripts_tables_warnings_and_commands_remain(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("#results tbody tr:visible").count() == 33
    assert page.locator(".warnings li.fail:visible").count() >= 1
    assert page.locator("#reproduce pre").is_visible()
    assert page.locator("#charts").is_hidden()
    assert page.get_by_text("Without scripts").is_visible()


def test_names_roles_and_headings(visit):
    page = visit()
    unnamed = "nodes => nodes.filter(n => !(n.labels?.length || n.textContent.trim() || n.ariaLabel)).length"
    assert page.eval_on_selector_all("button, a, input, select", unnamed) == 0
    levels = page.eval_on_selector_all("h1, h2, h3", "nodes => nodes.map(n => Number(n.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.eval_on_selector_all(
        "svg", "n => n.every(s => s.ariaLabel || s.ariaHidden || s.getAttribute('aria-hidden'))"
    )
    assert page.get_attribute("html", "lang") == "en"
    ids = page.eval_on_selector_all("[id]", "nodes => nodes.map(n => n.id)")
    assert len(ids) == len(set(ids))
