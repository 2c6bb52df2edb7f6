"""The option classes: each component has one, with its keys; the page in docs is made from them."""

import inspect
import runpy
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Annotated, Literal

import pytest
from support import ROOT

from sam_bench.config import files
from sam_bench.config.compose import compose_specs, launcher_config
from sam_bench.errors import UsageError
from sam_bench.optim.create import option_names
from sam_bench.options import run
from sam_bench.options.component import GROUPS, declared
from sam_bench.options.rules import above, at_least, between, check, options_of, stated

YAMLS = [(group, name) for group in GROUPS for name in files.yaml_files(group)]
OF_THE_MACHINERY = {"clip_norm", "scaler", "total_steps", "steps_per_epoch", "when"}  # not for a YAML


@pytest.mark.parametrize(("group", "name"), YAMLS, ids="/".join)
def test_a_yaml_has_the_keys_of_its_class_and_no_other(group, name):
    config = files.read_component(group, name)
    options = declared(group, config["_target_"])
    assert options is not None
    keys = {key for key in config if not key.startswith("_")}
    optional = {field for field in options_of(options) if hasattr(options, field)}
    assert options_of(options).keys() - optional <= keys <= options_of(options).keys()
    check(options, {key: config[key] for key in keys if "${" not in str(config[key])}, group)


@pytest.mark.parametrize(("name", "words", "message"), [
    ("slurm", ["launcher.minutes=0"], "launcher.minutes=0 is not usable: it must be an integer >= 1"),
    ("slurm", ["launcher.memory_gb=-1"], "must be a number > 0"),
    ("slurm", ["launcher.setup=module"], "must be a list, each a word"),
    ("ray", ["launcher.gpus=-1"], "must be a number >= 0"),
    ("ray", ["+launcher.memory=3"], "unknown key 'launcher.memory'"),
])  # fmt: skip
def test_a_launcher_is_checked_before_its_engine_is_built(name, words, message):
    with pytest.raises(UsageError, match=message):
        launcher_config(name, words)
    assert launcher_config(name, ["launcher.parallel=3"])["parallel"] == 3


def test_a_logger_is_checked_with_its_run():
    with pytest.raises(UsageError, match=r"logger\.mode=offlin is not usable.* Did you mean 'offline'"):
        compose_specs(["logger=wandb", "logger.mode=offlin"])
    with pytest.raises(UsageError, match=r"unknown key 'logger\.project'"):
        compose_specs(["+logger.project=x"])


def test_the_options_of_training_are_those_of_its_yaml():
    assert files.read_component("train", "default").keys() == options_of(run.Train).keys()


@pytest.mark.parametrize(("group", "name"), YAMLS, ids="/".join)
def test_a_component_takes_what_its_class_declares(group, name):
    target = files.read_component(group, name)["_target_"]
    names = options_of(declared(group, target)).keys()
    component = resolve_name(target)
    if group == "optimizer":
        assert names <= option_names(component) - OF_THE_MACHINERY
    elif group != "base":
        parameters = inspect.signature(component).parameters.keys()
        assert names - {"accepts", "features"} <= parameters


def test_the_page_is_that_of_the_classes():
    page = runpy.run_path(str(ROOT / "scripts" / "options_table.py"))["text"]()
    assert (ROOT / "docs" / "options.md").read_text() == page, "write it again: python scripts/options_table.py"
    unexplained = [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert not unexplained


@dataclass
class Inner:
    depth: Annotated[int, between(1, 3)] = 2


@dataclass
class Sample:
    count: Annotated[int, at_least(1)]
    rate: Annotated[float | None, above(0), "with a meaning"]
    word: Literal["red", "green"] | None
    pair: Annotated[list[float], stated("two numbers", lambda v: len(v) == 2)]
    either: Annotated[Annotated[int, at_least(1)] | Literal["all"], "two kinds"]
    inner: Inner | None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "part.count=0 is not usable: it must be an integer >= 1."),
        ({"count": True}, "part.count=True .* an integer >= 1"),
        ({"count": 1.0}, "an integer >= 1"),
        ({"rate": 0}, "part.rate=0 .* a number > 0, or null"),
        ({"rate": "fast"}, "a number > 0, or null"),
        ({"word": "gren"}, "one of red, green, or null. Did you mean 'green'"),
        ({"pair": [1]}, "it must be two numbers"),
        ({"pair": "ab"}, "it must be two numbers"),
        ({"either": 0}, "an integer >= 1, or one of all"),
        ({"inner": 3}, "{depth:2}, or null"),
        ({"inner": {"depth": 4}}, r"part.inner.depth=4 .* an integer in \[1, 3\]"),
        ({"inner": {"dept": 1}}, "unknown key 'part.inner.dept'. Did you mean 'part.inner.depth'"),
    ],
    ids=str,
)
def test_what_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        check(Sample, values, "part")


def test_what_is_allowed():
    whole = {"count": 1, "rate": None, "word": "red", "pair": [0, 1.5], "either": "all", "inner": {"depth": 3}}
    check(Sample, whole, "part")
    check(Sample, {"rate": 2, "word": None, "either": 4, "inner": None, "_target_": "x"}, "part")
    check(Sample, {"other": 1}, "part", more=True)
    assert options_of(Sample)["rate"].meaning == "with a meaning"
