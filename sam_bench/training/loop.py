"""The one training loop. It names no method and no dataset: closure, step, clock, evaluate, checkpoint."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from sam_bench import metrics
from sam_bench.api import Batch
from sam_bench.datasets.task import Task
from sam_bench.errors import UsageError
from sam_bench.optim.base import SharpnessAware
from sam_bench.options.run import Train
from sam_bench.training import processes, seeding
from sam_bench.training.clock import Clock
from sam_bench.training.evaluate import evaluate
from sam_bench.training.options import steps_per_epoch

State = dict[str, Any]
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Passes of one SAM step: the common currency of budget=grad_evals.
SAM_PASSES = 2
# Steps between two looks at the loss on the device: a look waits for the device.
CHECK_EVERY = 50
REPORT_SECONDS = 0.5


class NonFiniteLoss(Exception):
    """The training loss became NaN or infinite; `step` says when."""

    def __init__(self, step: int, loss: float):
        super().__init__(f"the training loss is {loss} at step {step}: try a smaller base.lr, or train.clip_norm=1.0")
        self.step = step


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written."""


class Trainer:
    """Trains `model` on `task` with `optimizer`; its whole state is in `state_dict`.

    `parallel` is the model as the training passes call it, which is another where several ranks share the run.
    """

    def __init__(self, task: Task, model: nn.Module, optimizer: SharpnessAware,
                 schedule: Callable[[float, float], float], options: Train, *, seed: int, precision: str = "fp32",
                 scaler: torch.amp.GradScaler | None = None, device: torch.device | None = None,
                 parallel: nn.Module | None = None):  # fmt: skip
        self.task, self.model, self.optimizer, self.schedule, self.options = task, model, optimizer, schedule, options
        self.seed, self.scaler, self.parallel = seed, scaler, parallel or model
        self.device = device or torch.device("cpu")
        dtype = DTYPES[precision]
        self.autocast = partial(torch.autocast, self.device.type, dtype=dtype, enabled=dtype is not None)
        self.penalty = getattr(model, "penalty", None)
        self.higher_is_better = metrics.HIGHER_IS_BETTER[task.metric]
        self.train_index = task.splits["train"]
        self.steps_per_epoch = steps_per_epoch(len(self.train_index), options.batch_size, options.drop_last)
        self.initial_lrs = [group["lr"] for group in optimizer.param_groups]
        self.draws = torch.Generator(self.device)
        self.clock = Clock(self.device)
        self.epoch = self.batch = self.step = self.samples = 0
        self.curve: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._first_bad: torch.Tensor
        self._loss_steps: int
        self.best: State = {"epoch": 0, "value": math.nan, "loss": math.inf, "metrics": {}, "model": None}
        self._start_epoch_sums()

    # -- how far the run is ------------------------------------------------------------------------------------

    @property
    def position(self) -> float:
        """Epochs done, fractional, in the currency of the budget; the run ends at `options.epochs`."""
        options = self.options
        if options.budget == "seconds":
            return options.epochs * self.clock.read("train") / (options.seconds or math.inf)
        if options.budget == "grad_evals":
            return float(self.optimizer.memory["grad_evals"] / (SAM_PASSES * self.steps_per_epoch))
        return self.step / self.steps_per_epoch

    @property
    def finished(self) -> bool:
        """True when the budget, `max_steps` or the patience is used up."""
        options = self.options
        if options.max_steps is not None and self.step >= options.max_steps:
            return True
        waited = self.epoch - self.best["epoch"]
        if options.patience is not None and self.best["epoch"] and self.batch == 0 and waited >= options.patience:
            return True
        return self.position >= options.epochs

    # -- one step ----------------------------------------------------------------------------------------------

    def closure_of(self, batch: Batch, weight: torch.Tensor | None = None) -> Callable[..., torch.Tensor]:
        """What a method calls for one pass over `batch`; `weight` as of `processes.part`."""

        def closure(index: torch.Tensor | None = None, backward: bool = True) -> torch.Tensor:
            part = batch if index is None else batch.select(index)
            with self.autocast():
                output = self.parallel(part)
            losses = self.task.loss(output, part, self.penalty, self.options.label_smoothing)
            if weight is not None:
                losses = losses * weight
            if backward:
                loss = losses.mean()
                scaled = loss if self.scaler is None else self.scaler.scale(loss)
                scaled.backward()
            return losses.detach()

        return closure

    def _seed_draws(self) -> None:
        """Augmentation draws are a function of the seed and the step."""
        self.draws.manual_seed(seeding.derive(self.seed, "augment", self.step))

    def _step(self, index: torch.Tensor) -> None:
        for group, initial in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial * self.schedule(self.position, self.options.epochs)
        self._seed_draws()
        whole = self.task.collate(index, train=True, generator=self.draws)
        batch, mine, weight = processes.part(self.task, whole, index)
        loss = processes.mean(self.optimizer.step(self.closure_of(batch, weight), samples=mine))
        # Kept on the device: the first bad step is remembered there and read at the next look.
        bad = ~torch.isfinite(loss)
        self._first_bad = torch.where((self._first_bad < 0) & bad, self.step, self._first_bad)
        self._loss_sum += torch.where(bad, 0.0, loss.double())
        self._loss_steps += 1
        self.step += 1
        self.batch += 1
        self.samples += len(index)
        self.clock.count(len(index))
        if self.step % CHECK_EVERY == 0:
            self._raise_if_bad()

    def _raise_if_bad(self) -> None:
        if (first := int(self._first_bad)) >= 0:
            raise NonFiniteLoss(first, math.nan)

    # -- one epoch ---------------------------------------------------------------------------------------------

    def _start_epoch_sums(self) -> None:
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._first_bad = torch.tensor(-1, device=self.device)
        self._loss_steps = 0
        self._epoch_start = {"step": self.step, "sampled": self.optimizer.memory["sampled"]}

    def _order(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seeding.derive(self.seed, "order", self.epoch))
        order = torch.randperm(len(self.train_index), generator=generator).to(self.train_index.device)
        return self.train_index[order]

    def _train_epoch(self, between_steps: Callable[[], None]) -> None:
        order, size = self._order(), self.options.batch_size
        with self.clock.running("train"):
            while self.batch < self.steps_per_epoch and not self.finished:
                self._step(order[self.batch * size : (self.batch + 1) * size])
                between_steps()
            self._raise_if_bad()

    def _end_epoch(self) -> dict[str, Any]:
        self.epoch, self.batch = self.epoch + 1, 0
        row = {
            "epoch": self.epoch,
            "step": self.step,
            "grad_evals": self.optimizer.memory["grad_evals"],
            "train_seconds": round(self.clock.seconds["train"], 4),
            "lr": self.optimizer.param_groups[0]["lr"],
            "sam_fraction": self._sam_fraction_of_epoch(),
            "train/loss": self._loss_sum.item() / max(1, self._loss_steps),
        }
        if self.epoch % self.options.eval_every == 0 or self.finished:
            with self.clock.running("eval"):
                valid, notes = self.evaluate("valid")
            self._keep_if_best(valid)
            self.notes.extend(note for note in notes if note not in self.notes)
            row.update(valid)
        self.curve.append(row)
        self._start_epoch_sums()
        return row

    def _sam_fraction_of_epoch(self) -> float:
        start = self._epoch_start
        return float((self.optimizer.memory["sampled"] - start["sampled"]) / max(1, self.step - start["step"]))

    def evaluate(self, split: str) -> tuple[dict[str, float], list[str]]:
        """Loss and metric of a split with the present weights, as rank 0 finds them."""
        look = partial(evaluate, self.model, self.task, split, batch_size=self.options.eval_batch_size)
        return processes.from_first(partial(look, autocast=self.autocast))

    def _keep_if_best(self, valid: dict[str, float]) -> None:
        """The best epoch by the valid metric; by the valid loss where the metric is undefined."""
        value, best = valid[f"valid/{self.task.metric}"], self.best["value"]
        if math.isnan(value) and math.isnan(best):
            better = valid["valid/loss"] < self.best["loss"]
        else:
            better = math.isnan(best) or (value > best if self.higher_is_better else value < best)
        if better:
            weights = {key: tensor.detach().clone() for key, tensor in self.model.state_dict().items()}
            self.best = {"epoch": self.epoch, "value": value, "loss": valid["valid/loss"], "metrics": valid,
                         "model": weights}  # fmt: skip

    # -- the run -----------------------------------------------------------------------------------------------

    def fit(self, *, save: Callable[[State], None], report: Callable[[State], None], stop: Callable[[], bool],
            log: Callable[[State], None]) -> None:  # fmt: skip
        """Train to the end of the budget, then set the weights of the best epoch.

        `save` gets the state every `checkpoint_seconds`, `report` the progress now and then, `log` each row
        of the curve, and `stop` may ask to end early: then the state is saved and Stopped raised. A NaN or infinite
        loss raises NonFiniteLoss.
        """
        if processes.count() > 1 and self.options.budget == "seconds":
            raise UsageError("train.budget=seconds is for one process: the clocks of several do not agree.")
        last = {"save": time.monotonic(), "report": -math.inf}

        def between_steps() -> None:
            now = time.monotonic()
            due = processes.rank() == 0 and now - last["save"] >= self.options.checkpoint_seconds
            stopping, due = processes.any_of(stop(), due)
            if now - last["report"] >= REPORT_SECONDS:
                report(self.progress())
                last["report"] = now
            if stopping or due:
                self._raise_if_bad()
                with self.clock.running("setup"):
                    save(self.state_dict())
                last["save"] = time.monotonic()
            if stopping:
                raise Stopped

        self.model.train()
        while not self.finished or self.batch:  # a checkpoint of the last step resumes before the end of its epoch
            self._train_epoch(between_steps)
            row = self._end_epoch()
            with self.clock.running("setup"):
                log(row)
        self.model.load_state_dict(self.best["model"])

    def progress(self) -> dict[str, Any]:
        """Where the run is: step, steps, epoch and the last valid metric."""
        total = math.ceil(self.options.epochs * self.steps_per_epoch)
        if self.options.max_steps is not None:
            total = min(total, self.options.max_steps)
        share = min(1.0, max(self.position / self.options.epochs, self.step / total if total else 1.0))
        empty: State = {}
        row = next((row for row in reversed(self.curve) if f"valid/{self.task.metric}" in row), empty)
        return {"step": self.step, "steps": total, "share": share, "epoch": self.epoch,
                "metric": self.task.metric, "value": row.get(f"valid/{self.task.metric}")}  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "rng": processes.gather(seeding.rng_state()),
            "clock": self.clock.state_dict(),
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step, "samples": self.samples},
            "sums": {"loss": self._loss_sum, "steps": self._loss_steps, "start": self._epoch_start},
            "curve": self.curve,
            "notes": self.notes,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken; raises UsageError where other ranks are to go on."""
        if (before := len(state["rng"])) != processes.count():
            raise UsageError(
                f"this run was begun by {before} process(es) and cannot go on with {processes.count()}: the bits would "
                "differ. Go on with as many, or remove its .running folder to begin again."
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.clock.load_state_dict(state["clock"])
        for name, value in state["position"].items():
            setattr(self, name, value)
        self._start_epoch_sums()
        self._loss_sum += state["sums"]["loss"].to(self.device)
        self._loss_steps, self._epoch_start = state["sums"]["steps"], state["sums"]["start"]
        self.curve, self.notes, self.best = state["curve"], state["notes"], state["best"]
        seeding.set_rng_state(state["rng"][processes.rank()])
