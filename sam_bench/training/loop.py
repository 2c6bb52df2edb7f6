"""The only training loop. It knows no method and no data set: closure, step, clock, evaluate, checkpoint."""

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
from sam_bench.training.options import steps_in_all, steps_per_epoch

State = dict[str, Any]
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Passes of one SAM step, the unit of budget=grad_evals.
SAM_PASSES = 2
# Steps between two reads of the loss; a read waits for the device.
CHECK_EVERY = 50
REPORT_SECONDS = 0.5


class NonFiniteLoss(Exception):
    """A loss became NaN or infinite, and the run is over; `step` says when."""

    def __init__(self, step: int, which: str = "training"):
        advice = "try a smaller base.lr, or train.clip_norm=1.0"
        super().__init__(f"the {which} loss is NaN or infinite at step {step}: {advice}")
        self.step = step


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written."""


class Trainer:
    """Trains `model` on `task` with `optimizer`; its whole state is in `state_dict`.

    `parallel` is the model that the training passes call; it differs from `model` if several ranks share the run.
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
        self._loss_sum: float
        self._loss_steps: int
        self._unread: list[torch.Tensor]  # losses of the latest steps, still on the device
        self.best: State = {"epoch": 0, "value": math.nan, "loss": math.inf, "metrics": {}, "model": None}
        self._start_epoch_sums()

    # -- how far the run is ------------------------------------------------------------------------------------

    @property
    def position(self) -> float:
        """Epochs done, a fractional number, in the unit of the budget; the run ends at `options.epochs`."""
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
        """The closure that a method calls for a pass over `batch`; `weight` is that of `processes.part`."""

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
        """Seed the augmentation's generator from the seed and the step."""
        self.draws.manual_seed(seeding.derive(self.seed, "augment", self.step))

    def _step(self, index: torch.Tensor) -> None:
        for group, initial in zip(self.optimizer.param_groups, self.initial_lrs, strict=True):
            group["lr"] = initial * self.schedule(self.position, self.options.epochs)
        self._seed_draws()
        whole = self.task.collate(index, train=True, generator=self.draws)
        batch, mine, weight = processes.part(self.task, whole, index)
        loss = processes.mean(self.optimizer.step(self.closure_of(batch, weight), samples=mine))
        self._unread.append(loss)
        self.step += 1
        self.batch += 1
        self.samples += len(index)
        self.clock.count(len(index))
        if self.step % CHECK_EVERY == 0:
            self._read_losses()

    def _read_losses(self) -> None:
        """Add up the losses since the last look, for which the host waits; raises NonFiniteLoss."""
        first = self.step - len(self._unread)
        losses = torch.stack(self._unread).tolist() if self._unread else []
        self._unread = []
        for step, loss in enumerate(losses, start=first):
            if not math.isfinite(loss):
                raise NonFiniteLoss(step)
            self._loss_sum += loss
            self._loss_steps += 1

    # -- one epoch ---------------------------------------------------------------------------------------------

    def _start_epoch_sums(self) -> None:
        self._loss_sum, self._loss_steps, self._unread = 0.0, 0, []
        self._epoch_start = {"step": self.step, "sampled": self.optimizer.memory["sampled"]}

    def _order(self) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seeding.derive(self.seed, "order", self.epoch))
        order = torch.randperm(len(self.train_index), generator=generator).to(self.train_index.device)
        order = self.train_index[order]
        return order.pin_memory() if self.device.type == "cuda" else order  # so that nobody waits for a copy of it

    def _train_epoch(self, between_steps: Callable[[], None]) -> None:
        order, size = self._order(), self.options.batch_size
        with self.clock.running("train"):
            while self.batch < self.steps_per_epoch and not self.finished:
                self._step(order[self.batch * size : (self.batch + 1) * size])
                between_steps()
            self._read_losses()

    def _end_epoch(self) -> dict[str, Any]:
        self.epoch, self.batch = self.epoch + 1, 0
        row = {
            "epoch": self.epoch,
            "step": self.step,
            "grad_evals": self.optimizer.memory["grad_evals"],
            "train_seconds": round(self.clock.seconds["train"], 4),
            "lr": self.optimizer.param_groups[0]["lr"],
            "sam_fraction": self._sam_fraction_of_epoch(),
            "train/loss": self._loss_sum / max(1, self._loss_steps),
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
        """Loss and metric of a split with the current weights, computed by rank 0."""
        look = partial(evaluate, self.model, self.task, split, batch_size=self.options.eval_batch_size)
        return processes.from_first(partial(look, autocast=self.autocast))

    def _keep_if_best(self, valid: dict[str, float]) -> None:
        """Keep the best epoch by the valid metric, or by the valid loss if the metric is undefined."""
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
        """Train to the end of the budget, then load the weights of the best epoch.

        `save` gets the state every `checkpoint_seconds`, `report` the progress now and then, `log` each row
        of the curve, and `stop` may ask to end early: then the state is saved and Stopped raised. A training loss
        that is NaN or infinite raises NonFiniteLoss, and so does a valid loss that never was a number.
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
                with self.clock.running("setup"):
                    save(self.state_dict())
                last["save"] = time.monotonic()
            if stopping:
                raise Stopped

        self.model.train()
        while not self.finished or self.batch:  # resuming from a checkpoint of the last step must still end its epoch
            self._train_epoch(between_steps)
            row = self._end_epoch()
            with self.clock.running("setup"):
                log(row)
        if self.best["model"] is None:  # no look at the valid split gave a number
            raise NonFiniteLoss(self.step, "valid")
        self.model.load_state_dict(self.best["model"])

    def progress(self) -> dict[str, Any]:
        """How far the run is: step, steps, epoch and the last valid metric."""
        share = self.position / self.options.epochs
        total = steps_in_all(self.options, self.steps_per_epoch, self.step, share)
        share = min(1.0, max(share, self.step / total if total else 1.0))
        empty: State = {}
        row = next((row for row in reversed(self.curve) if f"valid/{self.task.metric}" in row), empty)
        return {"step": self.step, "steps": total, "share": share, "epoch": self.epoch,
                "metric": self.task.metric, "value": row.get(f"valid/{self.task.metric}")}  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as tensors and plain values; may raise NonFiniteLoss."""
        self._read_losses()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "rng": processes.gather(seeding.rng_state()),
            "clock": self.clock.state_dict(),
            "position": {"epoch": self.epoch, "batch": self.batch, "step": self.step, "samples": self.samples},
            "sums": {
                "loss": torch.tensor(self._loss_sum, dtype=torch.float64),
                "steps": self._loss_steps,
                "start": self._epoch_start,
            },
            "curve": self.curve,
            "notes": self.notes,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was saved; raises UsageError for another number of ranks."""
        if (before := len(state["rng"])) != processes.count():
            raise UsageError(
                f"this run was started with {before} process(es) and cannot continue with "
                f"{processes.count()}: the bits would differ. Use the same number, or "
                "remove its .running folder to start again."
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.clock.load_state_dict(state["clock"])
        for name, value in state["position"].items():
            setattr(self, name, value)
        self._start_epoch_sums()
        self._loss_sum = state["sums"]["loss"].item()
        self._loss_steps, self._epoch_start = state["sums"]["steps"], state["sums"]["start"]
        self.curve, self.notes, self.best = state["curve"], state["notes"], state["best"]
        seeding.set_rng_state(state["rng"][processes.rank()])
