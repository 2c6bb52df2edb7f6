"""What every optimizer, model and data set must do, as checks for `sam-bench check` and for pytest.

from sam_bench.contract import optimizer_contract

def test_my_sam():
    optimizer_contract(MySAM).demand()
"""

from sam_bench.contract.datasets import dataset_contract
from sam_bench.contract.launchers import launcher_contract
from sam_bench.contract.models import model_contract
from sam_bench.contract.optimizers import optimizer_contract
from sam_bench.contract.result import VERSION, Point, Report, Result, Verdict

__all__ = [
    "VERSION",
    "Point",
    "Report",
    "Result",
    "Verdict",
    "dataset_contract",
    "launcher_contract",
    "model_contract",
    "optimizer_contract",
]
