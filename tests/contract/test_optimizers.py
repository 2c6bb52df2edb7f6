"""The checks can fail: each of the broken optimizers fails its points and no other; answers are complete."""

import dataclasses
import json

import pytest
import torch
from support.broken import POINTS as BROKEN

from sam_bench.contract import VERSION, Verdict, optimizer_contract, ranks
from sam_bench.contract.optimizers import POINTS, check
from sam_bench.contract.subject import Subject
from sam_bench.errors import UsageError
from sam_bench.optim import SAM

pytestmark = pytest.mark.xdist_group("broken optimizers")  # they share two processes
ALONE = [point for point in POINTS if point is not ranks.ranks]


def subject(kind: type) -> Subject:
    return dataclasses.replace(Subject.of(kind), over=("momentum",))


@pytest.fixture(scope="module")
def started():
    return ranks.across_ranks([subject(kind) for kind in BROKEN])


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_exactly_the_right_point_fails(kind, started):
    report = check(subject(kind), ALONE)
    failed = {result.point: result for result in (*report.failed, ranks.ranks(subject(kind), started))
              if result.verdict is Verdict.FAILED}  # fmt: skip
    assert failed.keys() == BROKEN[kind], {point: result.seen for point, result in failed.items()}
    assert all(result.seen and result.advice for result in failed.values())


def test_a_torch_optimizer_by_itself():
    """It takes a NaN gradient: that, and nothing else, is what a bare base does not hold."""
    report = optimizer_contract(torch.optim.AdamW, lr=0.01, points=ALONE)
    assert [result.point for result in report.failed] == ["6"]
    verdicts = {result.point: result.verdict for result in report.results}
    assert {point for point, verdict in verdicts.items() if verdict is Verdict.NOT_APPLICABLE} == {"1", "2", "10"}


def test_the_report():
    report = optimizer_contract(SAM, points=ALONE[:3])
    assert report.passed
    assert report.badge == f"SAM passes sam_bench contract {VERSION}"
    report.demand()
    told = json.loads(json.dumps(report.as_dict()))
    assert [point["verdict"] for point in told["points"]] == ["passed", "not applicable", "passed"]
    broken = optimizer_contract(next(kind for kind in BROKEN if BROKEN[kind] == {"3"}), points=ALONE[2:3])
    with pytest.raises(
        AssertionError, match=r"CountsSteps fails sam_bench contract .*: 3\n3\. it takes .* 22 times\. Count"
    ):
        broken.demand()


def test_a_target_that_cannot_be_made_is_refused():
    with pytest.raises(UsageError, match=r"SAM has no option 'roh'\. Did you mean 'rho'"):
        optimizer_contract(SAM, roh=0.1)
    with pytest.raises(UsageError, match=r"<lambda>\(base, model, \*\*options\) raised TypeError.*adapter"):
        optimizer_contract(lambda parameters: None)
    with pytest.raises(UsageError, match="Did you mean 'sam"):
        optimizer_contract("smam")


def test_a_class_that_no_second_process_can_import_is_said():
    class Local(SAM):
        pass

    result = ranks.ranks(Subject.of(Local))
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert "at the top of a module" in result.seen
