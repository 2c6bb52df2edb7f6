"""Charts with a row for each optimizer, and tables that say that they scroll, in a browser."""

import copy

import pytest
from support.fabricated import grid, make_record, write

from sam_bench.results.report.page import report
from sam_bench.store import index
from sam_bench.store.identity import run_id

pytestmark = pytest.mark.chromium
HINT = "node => getComputedStyle(node, '::before').content"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
# Of each chart with rows: names that a line crosses, or that the frame cuts.
STRUCK = """
() => [...document.querySelectorAll('svg')].flatMap(chart => {
  const frame = chart.getBoundingClientRect();
  const lines = [...chart.querySelectorAll('.level, path.axis, .grid')].map(line => line.getBoundingClientRect());
  return [...chart.querySelectorAll('text.row')].filter(text => {
    const own = text.getBoundingClientRect();
    const crossed = lines.some(line => line.left < own.right - 1 && line.right > own.left && line.top < own.bottom
      && line.bottom > own.top);
    return crossed || own.left < frame.left - 1;
  }).map(text => text.textContent);
})
"""


def under(record, budget, seconds=None):
    record = copy.deepcopy(record)
    record["config"]["train"] |= {"budget": budget, "seconds": seconds}
    record["run_id"] = run_id(record["labels"], record["config"])
    return record


@pytest.fixture(scope="module")
def triple(tmp_path_factory):
    """The address of a report about three budgets of methods with long names, and of one data set without them."""
    folder = tmp_path_factory.mktemp("triple")
    plain = grid(("erm", "graphsam_reference_not_adaptive", "my_mmm_method"), seeds=range(6))
    records = [under(r, "epochs") for r in plain] + [under(r, "grad_evals") for r in plain]
    records += [under(r, "seconds", 8.0) for r in plain] + [make_record("my_mmm_method", dataset="esol")]
    for record in records:
        write(folder, record)
    return report({"three": index.load(folder, [r["run_id"] for r in records])}, folder / "report.html").as_uri()


@pytest.fixture
def budgets(browser, triple):
    """Opens the report about three budgets at a size."""
    contexts = []

    def opened(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.goto(triple)
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield opened
    for context in contexts:
        context.close()


def test_no_line_crosses_a_name(visit, budgets):
    for page in (visit(), visit(**PHONE), budgets(viewport={"width": 1280, "height": 900}), budgets(**PHONE)):
        assert page.locator("text.row").count() > 12
        assert page.evaluate(STRUCK) == []
    page.evaluate("document.querySelector('#chart-differences text.row').setAttribute('x', 200)")
    assert len(page.evaluate(STRUCK)) == 1  # it is really measured


def test_test_and_valid_metric_stand_in_one_chart(visit):
    page = visit()
    said = page.eval_on_selector_all("#chart-metrics .mark", "nodes => nodes.map(node => node.ariaLabel)")
    assert len(said) == 2 * 5
    assert [text.split()[1] for text in said[:2]] == ["test/roc_auc", "valid/roc_auc"]
    page.locator("#chart-metrics .mark").nth(1).focus()
    assert page.inner_text("#chart-point").startswith("erm: valid/roc_auc")


def test_the_time_to_target_follows_the_axis_and_the_choice_of_optimizers(visit):
    page = visit()
    assert page.locator("#chart-target text.row").all_text_contents() == ["erm", "sam", "looksam", "vsam", "gsam"]
    assert "4 of 8" in page.text_content("#chart-target")  # of erm: its own median, or better
    assert "gradient evaluations" in page.get_attribute("#chart-target svg", "aria-label")
    page.select_option("#chart-clock", "train_seconds")
    assert "training seconds" in page.get_attribute("#chart-target svg", "aria-label")
    page.get_by_role("checkbox", name="vsam").uncheck()
    assert page.locator("#chart-target text.row").count() == 4


def test_budgets_are_drawn_beside_each_other_where_there_are_several(visit, budgets):
    assert not visit().locator("#budgets").is_visible()
    page = budgets(viewport={"width": 1280, "height": 900})
    assert page.locator("#budget-block option").all_inner_texts() == ["three: bbbp / grover / adam"]
    names = ["equal epochs", "equal gradient evaluations", "equal seconds"]
    assert page.locator("#budget-panels figcaption").all_inner_texts() == names
    assert page.locator("#budget-panels .mark").count() == 9
    assert page.locator("#budget-panels .level").count() == 3
    assert page.locator("#results caption", has_text="three budgets: bbbp").is_visible()
    page.locator("#budget-panels .mark").first.focus()
    assert page.inner_text("#budgets .point").startswith("erm, equal epochs: test/roc_auc")


def test_a_table_that_scrolls_says_so_until_its_last_column(visit):
    page = visit(**PHONE)
    table = page.locator("#results .scroll").nth(1)
    assert "Scroll sideways" in table.evaluate(HINT)
    table.evaluate("node => { node.scrollLeft = node.scrollWidth; }")
    page.wait_for_selector("#results .scroll.wide.end")
    assert "Scroll back" in table.evaluate(HINT)
    wide = visit(viewport={"width": 2400, "height": 900})
    wide.evaluate("document.body.style.maxWidth = 'none'")
    wide.wait_for_selector("#results .scroll:not(.wide) >> nth=1")
    assert wide.locator("#results .scroll").nth(1).evaluate(HINT) == "none"


def test_without_scripts_a_narrow_page_says_it_too(visit):
    hints = [visit(java_script_enabled=False, **size).locator("#results .scroll").first for size in (PHONE, {})]
    assert ["Scroll sideways" in hint.evaluate(HINT) for hint in hints] == [True, False]
