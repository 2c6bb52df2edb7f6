"""A browser, a report of made-up records, and a visit to it that must be silent."""

import itertools
import os
import shutil

import pytest
from support.fabricated import failed, grid, make_record, write, write_added

from sam_bench.results.report.page import report
from sam_bench.store import added, index


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        sandbox = [] if os.getuid() else ["--no-sandbox"]  # Chromium refuses its sandbox to root
        opened = driver.chromium.launch(executable_path=program, args=sandbox)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    records = grid(("erm", "sam", "looksam", "vsam"), seeds=range(8), datasets=("bbbp", "esol"))
    records[0]["provenance"]["dirty"] = True
    records += [make_record("gsam", short=True), failed(make_record("fsam", 9))]
    records.append(make_record(dataset="a_data_set_with_a_long_name", model="and_a_model_with_another"))
    for record in records:
        write(folder, record)
    for record, kind in itertools.product(records[:24:2], added.KINDS):  # bbbp: erm, sam, looksam
        write_added(folder, record, kind)
    loaded = index.load(folder, [record["run_id"] for record in records])
    return report({"fabricated": loaded}, folder / "report.html").as_uri()


@pytest.fixture
def visit(browser, address):
    """Opens the page; afterwards nothing may have been requested or complained of."""
    contexts, troubles = [], []

    def opened(**options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url == address or troubles.append(request.url))
        page.goto(address)
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready=yes]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []
