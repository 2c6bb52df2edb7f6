"""Search spaces: every optimizer and every base has one, and all arms try the same points in what they share."""

import pytest
import yaml
from support import ROOT

from sam_bench.config.compose import compose_specs
from sam_bench.errors import UsageError
from sam_bench.store.studies import word
from sam_bench.sweeps.search import Search, points, space_of

BASES = sorted(path.stem for path in ROOT.glob("configs/base/*.yaml"))
OPTIMIZERS = sorted(path.stem for path in ROOT.glob("configs/optimizer/*.yaml"))


def ends(rule):
    return rule.get("choices") or [rule["low"], rule["high"]]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_has_a_space_that_holds_its_default_and_can_be_built(optimizer):
    import torch

    from sam_bench.optim.create import create_optimizer

    space = {k: r for k, r in space_of("adam", optimizer).items() if k.startswith("optimizer.")}
    defaults = yaml.safe_load((ROOT / "configs" / "optimizer" / f"{optimizer}.yaml").read_text())
    assert bool(space) is (optimizer != "erm")
    for key, rule in space.items():
        default = defaults[key.partition(".")[2]]  # a KeyError: the option does not exist
        assert rule["source"]
        if default is not None:
            assert default in rule["choices"] if "choices" in rule else rule["low"] <= default <= rule["high"]
    corners = [{key: ends(rule)[end] for key, rule in space.items()} for end in (0, -1)]
    mixed = [
        {key: ends(rule)[-(place % 2)] for place, (key, rule) in enumerate(space.items(), start)} for start in (0, 1)
    ]
    for corner in (*corners, *mixed):
        options = {key.partition(".")[2]: value for key, value in corner.items()}
        model = torch.nn.Linear(3, 1)
        create_optimizer(optimizer, "adam", model, total_steps=10, steps_per_epoch=5, **options)


@pytest.mark.parametrize("base", BASES)
def test_every_base_has_a_space_that_holds_its_default(base):
    space = space_of(base, "erm")
    defaults = yaml.safe_load((ROOT / "configs" / "base" / f"{base}.yaml").read_text())
    assert set(space) == {"base.lr", "base.weight_decay"}
    for key, rule in space.items():
        default = defaults[key.partition(".")[2]]
        assert not default or rule["low"] <= default <= rule["high"]


@pytest.mark.parametrize("base", BASES)
def test_all_arms_share_their_points_bit_for_bit_and_a_prefix_is_a_smaller_study(base):
    shared = set(space_of(base, "erm"))
    reference = points(space_of(base, "erm"), 16)
    assert len({tuple(point.items()) for point in reference}) == 16
    for optimizer in ("sam", "graphsam", "vsam"):
        found = points(space_of(base, optimizer), 16)
        assert [{key: point[key] for key in shared} for point in found] == reference
        assert points(space_of(base, optimizer), 5) == found[:5]


def test_points_fill_their_space():
    """Each half of each range gets half of the points: what a Sobol sequence promises for powers of two."""
    import math

    space = {key: rule for key, rule in space_of("adam", "graphsam").items() if "low" in rule}
    found = points(space_of("adam", "graphsam"), 16)
    for key, rule in space.items():
        middle = math.sqrt(rule["low"] * rule["high"]) if rule.get("log") else (rule["low"] + rule["high"]) / 2
        assert sum(point[key] < middle for point in found) == 8, key
        assert all(rule["low"] <= point[key] <= rule["high"] for point in found)


def test_tpe_asks_the_same_again_when_it_is_told_the_same():
    def asked(scale):
        search, points = Search(space_of("adam", "sam"), "tpe", prune=False, enough=4), []
        for number in range(14):
            points.append(search.ask())
            search.tell(number, scale * points[-1]["base.lr"] if number % 5 else float("inf"))
        return points

    assert asked(1.0) == asked(1.0)
    assert asked(1.0)[:10] == asked(-1.0)[:10]  # its first ten are random
    assert asked(1.0) != asked(-1.0)


def test_a_hopeless_trial_is_pruned_once_there_is_something_to_compare_with():
    search = Search(space_of("adam", "erm"), "qmc", prune=True, enough=2)
    for number, value in enumerate((1.0, 2.0)):
        search.ask()
        assert not search.hopeless(number, 0, value)
        search.tell(number, value)
    search.ask()
    search.ask()
    assert search.hopeless(2, 0, 3.0)
    assert not search.hopeless(3, 0, 0.5)
    search.tell(2, None)


@pytest.mark.parametrize(
    "line",
    [
        "rho: {low: 1.0, high: 0.1, source: ours}",
        "rho: {low: 0.1, high: 1.0}",
        "rho: 0.1",
        "rho: {low: 0, high: 1, log: true, source: ours}",
    ],
)
def test_a_space_that_is_none_is_refused(tmp_path, monkeypatch, line):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text(line)
    monkeypatch.setenv("SAM_BENCH_CONFIGS", str(tmp_path))
    with pytest.raises(UsageError, match="rho"):
        space_of("adam", "mine")
    with pytest.raises(UsageError, match="no search space for theirs"):
        space_of("adam", "theirs")


def test_every_point_of_the_required_methods_is_a_configuration():
    for optimizer in ("graphsam", "vsam", "ae_looksam"):
        (point,) = points(space_of("adam", optimizer), 1)
        words = [f"{key}={word(value)}" for key, value in point.items()]
        (cell,) = compose_specs([f"optimizer={optimizer}", *words])
        assert {key: cell.config[key.partition(".")[0]][key.partition(".")[2]] for key in point} == point
