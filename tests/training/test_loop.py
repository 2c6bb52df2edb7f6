"""The loop: budgets, selection, early stopping, and what a record says of a run."""

import json

import pandas as pd
import pytest
import torch

from sam_bench.config.compose import compose_specs
from sam_bench.errors import UsageError
from sam_bench.training import seeding
from sam_bench.training.life import build_trainer, execute, pick_device
from sam_bench.training.loop import NonFiniteLoss
from sam_bench.training.options import steps_per_epoch
from sam_bench.training.precision import Arithmetic

SMALL = ("dataset=digits", "model=fastnet_tiny", "base=adam", "train.batch_size=256")


def run(results, *overrides):
    (cell,) = compose_specs([*SMALL, *overrides])
    record = execute(cell, results)
    folder = results / "runs" / record["run_id"]
    return record, pd.read_csv(folder / "curve.csv"), folder


@pytest.mark.parametrize(
    ("samples", "batch_size", "drop_last", "expected"),
    [
        (64, 32, False, 2),
        (70, 32, False, 3),
        (70, 32, True, 2),
        (65, 32, False, 2),
        (10, 32, True, 1),
        (1, 32, False, 1),
    ],
)
def test_steps_per_epoch(samples, batch_size, drop_last, expected):
    assert steps_per_epoch(samples, batch_size, drop_last) == expected


def test_a_record_says_what_was_done(tmp_path):
    record, curve, folder = run(tmp_path, "optimizer=sam", "train.epochs=3")
    assert record["status"] == "finished"
    assert not record["short"]
    assert set(record["metrics"]) == {"test/accuracy", "test/loss", "valid/accuracy", "valid/loss", "train/loss"}
    assert record["labels"] == {"dataset": "digits", "model": "fastnet_tiny", "base": "adam", "optimizer": "sam",
                                "seed": 0, "split_seed": 0}  # fmt: skip
    assert record["epochs"] == len(curve) == 3
    assert record["grad_evals"] == 2 * record["steps"] == curve["grad_evals"].iloc[-1]
    assert record["sam_fraction"] == 1.0
    assert record["samples"] == 3 * record["data"]["sizes"]["train"]
    assert record["throughput"] > 0
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", "curve.csv", "record.json"]


def test_the_best_epoch_is_chosen_by_the_valid_metric_and_tested(tmp_path):
    record, curve, folder = run(tmp_path, "optimizer=erm", "train.epochs=6", "base.lr=0.01")
    best = curve.loc[curve["valid/accuracy"].idxmax()]
    assert record["best_epoch"] == best["epoch"]
    assert record["metrics"]["valid/accuracy"] == pytest.approx(best["valid/accuracy"], abs=1e-12)
    (cell,) = compose_specs([*SMALL, "optimizer=erm", "train.epochs=6", "base.lr=0.01"])
    assert cell.run_id == record["run_id"]
    from sam_bench.config.build import build_model, build_task
    from sam_bench.store import places
    from sam_bench.training.evaluate import evaluate

    task = build_task(cell.config, places.data_dir())
    model = build_model(cell.config, task)
    model.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    again, _ = evaluate(model, task, "test", batch_size=64, autocast=lambda: torch.autocast("cpu", enabled=False))
    assert again["test/accuracy"] == pytest.approx(record["metrics"]["test/accuracy"], abs=1e-6)


def test_the_test_images_are_looked_at_once_and_last(tmp_path, monkeypatch):
    from sam_bench.datasets.task import Task

    looks, collate = [], Task.collate

    def watched(task, index, **options):
        looks.append((task, index))
        return collate(task, index, **options)

    monkeypatch.setattr(Task, "collate", watched)
    run(tmp_path, "optimizer=erm", "train.epochs=3")
    wanted = set(looks[0][0].splits["test"].tolist())
    at_test = [bool(wanted & set(index.tolist())) for _, index in looks]
    assert sorted(i for (_, index), here in zip(looks, at_test, strict=True) if here for i in index.tolist()) == sorted(
        wanted
    )
    assert at_test == sorted(at_test)  # after everything else


def test_equal_grad_evals_gives_the_base_what_sam_spends(tmp_path):
    records = {
        name: run(tmp_path, f"optimizer={name}", "train.epochs=2", "train.budget=grad_evals")[0]
        for name in ("erm", "sam", "looksam")
    }
    assert records["erm"]["grad_evals"] == records["sam"]["grad_evals"]
    assert records["erm"]["steps"] == 2 * records["sam"]["steps"]
    assert records["looksam"]["grad_evals"] == pytest.approx(records["sam"]["grad_evals"], abs=1)


@pytest.mark.parametrize(
    ("budget", "method", "passes"),
    [("epochs", "erm", 2), ("grad_evals", "erm", 1), ("grad_evals", "sam", 2), ("grad_evals", "looksam", 1.2)],
)
def test_progress_is_the_share_of_the_budget(budget, method, passes):
    """`passes`: gradient evaluations of a step, where a budget of them counts as SAM's two."""
    (cell,) = compose_specs([*SMALL, f"optimizer={method}", f"train.budget={budget}", "train.epochs=4"])
    trainer = build_trainer(cell, torch.device("cpu"), Arithmetic("fp32", False))
    epochs = 4 * trainer.steps_per_epoch
    assert trainer.progress() | {"step": 0, "share": 0.0, "steps": epochs} == trainer.progress()
    for _ in range(10):  # a whole number of LookSAM's cycles
        trainer._step(torch.arange(256))
    told = trainer.progress()
    assert told["step"] == 10
    assert told["steps"] == pytest.approx(epochs * 2 / passes, abs=1)
    assert told["share"] == pytest.approx(10 / told["steps"], rel=0.01)


def test_equal_seconds_stops_at_the_time(tmp_path):
    record, _, _ = run(tmp_path, "optimizer=erm", "train.epochs=500", "train.budget=seconds", "train.seconds=1.5")
    assert 1.5 <= record["train_seconds"] < 3.0
    assert record["steps"] > 1


def test_the_schedule_is_the_same_for_every_arm(tmp_path):
    curves = [
        run(tmp_path, f"optimizer={name}", "train.epochs=3", "schedule=cosine")[1]["lr"] for name in ("erm", "sam")
    ]
    pd.testing.assert_series_equal(*curves, check_exact=True)
    assert curves[0].is_monotonic_decreasing


def test_a_short_run_is_marked(tmp_path):
    record, _, _ = run(tmp_path, "optimizer=erm", "train.max_steps=4")
    assert record["short"]
    assert record["steps"] == 4


def test_patience_ends_a_run_that_does_not_get_better(tmp_path):
    record, curve, _ = run(tmp_path, "optimizer=erm", "train.epochs=50", "train.patience=2", "base.lr=1e-12")
    assert record["epochs"] == len(curve) == record["best_epoch"] + 2


def test_a_nan_loss_fails_with_its_step_and_leaves_a_record(tmp_path):
    (cell,) = compose_specs([*SMALL, "optimizer=erm", "base.lr=1e30", "train.epochs=3"])
    with pytest.raises(NonFiniteLoss, match=r"base\.lr"):
        execute(cell, tmp_path)
    record = json.loads((tmp_path / "runs" / f"{cell.run_id}.failed" / "record.json").read_text())
    assert record["status"] == "failed"
    assert record["error"]["type"] == "NonFiniteLoss"
    assert record["error"]["step"] >= 1
    assert not (tmp_path / "runs" / cell.run_id).exists()


def test_a_valid_loss_that_never_was_a_number_fails_as_a_diverged_run(tmp_path):
    """One step whose loss is finite, and weights of 1e30 after it."""
    (cell,) = compose_specs([*SMALL, "optimizer=erm", "base.lr=1e30", "train.max_steps=1"])
    with pytest.raises(NonFiniteLoss, match="the valid loss is NaN or infinite at step 1"):
        execute(cell, tmp_path)
    record = json.loads((tmp_path / "runs" / f"{cell.run_id}.failed" / "record.json").read_text())
    assert record["error"]["type"] == "NonFiniteLoss"


@pytest.mark.parametrize(
    "words", [("optimizer=graphsam",), ("dataset=nci_tpsa", "model=grover_small", "optimizer=sam")]
)
def test_new_memory_that_is_not_filled_leaves_the_same_weights(words, tmp_path, monkeypatch):
    """torch's deterministic mode can fill every new tensor with NaN: a weight that read one would be NaN."""
    words = [*words, "train.max_steps=4", "train.batch_size=64"]
    plain = run(tmp_path / "plain", *words)[2]
    assert not torch.utils.deterministic.fill_uninitialized_memory
    seed_everything = seeding.seed_everything

    def seed_and_fill(seed, *, deterministic):
        seed_everything(seed, deterministic=deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = deterministic

    monkeypatch.setattr(seeding, "seed_everything", seed_and_fill)
    filled = run(tmp_path / "filled", *words)[2]
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    one, two = (torch.load(folder / "best.pt", weights_only=True) for folder in (plain, filled))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_runs_that_differ_in_what_matters_have_other_names():
    def name(*overrides):
        return compose_specs([*SMALL, *overrides])[0].run_id

    assert name("optimizer=sam") == name("optimizer=sam", "device=cpu") == name("optimizer=sam", "logger=wandb")
    assert name("optimizer=sam") == name("optimizer=sam", "train.checkpoint_seconds=1")
    different = {name(f"optimizer={o}", f"seed={s}", f"optimizer.rho={r}") for o, s, r in
                 [("sam", 0, 0.05), ("sam", 1, 0.05), ("sam", 0, 0.1), ("looksam", 0, 0.05)]}  # fmt: skip
    assert len(different) == 4


def test_a_gpu_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="device=cpu"):
        pick_device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_the_gpu_twice_gives_the_same_bits(precision, tmp_path):
    overrides = ("optimizer=sam", "device=cuda", f"precision={precision}", "train.epochs=2")
    a, b = (run(tmp_path / folder, *overrides)[0]["metrics"] for folder in "ab")
    assert a == b


def test_a_models_penalty_is_part_of_the_training_loss(tmp_path):
    """GROVER's heads disagree at first: without its penalty the first loss is smaller."""
    words = ("dataset=nci_tpsa", "model=grover_small", "optimizer=erm", "train.max_steps=1", "train.batch_size=64")
    losses = []
    for weight in (0.0, 0.1, 0.2):
        curve = run(tmp_path / str(weight), *words, f"model.disagreement={weight}")[1]
        losses.append(float(curve["train/loss"].iloc[0]))
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)
    assert losses[1] > losses[0]
