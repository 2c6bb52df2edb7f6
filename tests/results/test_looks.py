"""A method looks the same everywhere; two methods never look alike in one figure; the colours are told apart."""

import copy
import itertools
import json
import re
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.fabricated import grid, make_record

from sam_bench.results import looks
from sam_bench.results.arms import blocks

CONFIGS = Path(__file__).parents[2] / "configs"
PAPERS = ((255, 255, 255), (0x14, 0x17, 0x1C))  # the paper of figures and of the light page, and of the dark page
# What is seen of linear RGB: all of it; by protanopes, deuteranopes, tritanopes (Machado et al. 2009, severity 1).
VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_LMS = [[0.41222147, 0.53633254, 0.05144599], [0.2119035, 0.6806995, 0.1073970], [0.08830246, 0.28171884, 0.62997870]]
TO_LAB = [
    [0.21045426, 0.79361778, -0.0040720],
    [1.9779985, -2.4285922, 0.4505937],
    [0.02590404, 0.78277177, -0.8086758],
]


def linear(colours):
    values = np.array(colours) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def rgb(text):
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def arms_of(optimizer, n):
    records = []
    for i in range(n):
        record = make_record(optimizer, 0)
        record = copy.deepcopy(record)
        record["config"]["optimizer"]["rho"] = 0.01 * (i + 1)
        records.append(record)
    return records


def distinct(found):
    assert len({(look.colour, look.marker, look.hollow) for look in found}) == len(found)


def test_every_shipped_method_has_a_place_of_its_own():
    shipped = {file.stem for file in (CONFIGS / "optimizer").glob("*.yaml")}
    assert shipped == set(looks.SHIPPED)
    found = looks.looks_of(looks.SHIPPED)
    distinct(found.values())
    assert len({(look.colour, look.dash) for look in found.values()}) == len(shipped)


def test_a_place_never_changes():
    """A figure of last year and one of today show a method alike: what a release has given stays."""
    found = {name: (look.color, look.letter) for name, look in looks.looks_of(looks.SHIPPED).items()}
    assert found["erm"] == ("#1a1d21", "o")
    assert found["sam"] == ("#0387fe", "s")
    assert found["graphsam"] == ("#297282", "P")
    assert found["sam_vi_mfvi"] == ("#e907c4", "<")


def test_a_method_looks_the_same_in_every_experiment_and_any_order():
    one = looks.looks(blocks(grid(("erm", "sam", "looksam", "vsam"), seeds=[0])))
    other = looks.looks(blocks(grid(("vsam", "gsam", "erm", "mine"), seeds=[0], datasets=("esol", "bbbp"))))
    assert one["vsam"] == other["vsam"]
    assert one["erm"] == other["erm"]
    assert looks.looks_of(["mine"])["mine"] == other["mine"]


def test_experiments_of_up_to_eight_methods_use_eight_colours():
    checked = 0
    for file in (CONFIGS / "experiment").glob("*.yaml"):
        params = yaml.safe_load(file.read_text()).get("hydra", {}).get("sweeper", {}).get("params", {})
        names = re.findall(r"\w+", str(params.get("optimizer", "")))
        if 1 < len(names) <= len(looks.COLOURS):
            assert len({look.colour for look in looks.looks_of(names).values()}) == len(names), file.stem
            checked += 1
    assert checked > 8


def test_methods_of_ones_own_never_look_like_a_shipped_one_or_like_each_other():
    own = [f"{a}{b}" for a, b in itertools.product("mxq", string.ascii_lowercase[:17])]  # 51, as many as there is room
    found = looks.looks_of([*looks.SHIPPED, *own])
    distinct(found.values())
    assert found == looks.looks_of([*reversed(own), *looks.SHIPPED])


def test_the_place_of_ones_own_method_is_the_same_in_another_process():
    code = "from sam_bench.results.looks import looks_of; print(looks_of(['mine'])['mine'].packed)"
    seeded = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert json.loads(seeded.stdout) == looks.looks_of(["mine"])["mine"].packed


def test_variants_share_the_colour_and_are_told_apart():
    found = looks.looks(blocks([*arms_of("sam", 10), *arms_of("erm", 3), make_record("vsam", 0)]))
    assert len(found) == 14
    distinct(found.values())
    sams = [look for name, look in found.items() if name.startswith("sam (")]
    assert {look.color for look in sams} == {looks.looks_of(["sam"])["sam"].color}
    assert [look.hollow for look in sams] == [False] + [True] * 9
    assert len({look.dashes for look in sams[: len(looks.DASHES)]}) == len(looks.DASHES)


def test_the_plain_name_has_the_look_of_the_method_beside_variants_of_another_table():
    other = [{**r, "labels": {**r["labels"], "dataset": "esol"}} for r in arms_of("sam", 2)]
    found = looks.looks(blocks([*other, make_record("sam", 0)]))
    assert found["sam"] == looks.looks_of(["sam"])["sam"]
    assert sum(look.hollow for look in found.values()) == 2


@pytest.mark.parametrize("paper", [0, 1])
@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart_by_all_readers(vision, paper):
    """Distance in OKLab; 0.02 is just noticeable."""
    colours = linear([rgb(pair[paper]) for pair in looks.COLOURS])
    seen = np.clip(colours @ np.array(VISION[vision]).T, 0, 1)
    lab = np.cbrt(seen @ np.array(TO_LMS).T) @ np.array(TO_LAB).T
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2)) >= 0.1


@pytest.mark.parametrize("paper", [0, 1])
def test_colours_stand_out_from_the_paper(paper):
    """WCAG 2.2, 1.4.11: what is drawn has a contrast of at least 3 with what is beside it."""

    def light(colour):
        return float(linear(colour) @ [0.2126, 0.7152, 0.0722]) + 0.05

    behind = light(PAPERS[paper])
    for pair in looks.COLOURS:
        ends = sorted([light(rgb(pair[paper])), behind])
        assert ends[1] / ends[0] >= 3.0, pair
