"""Every method of configs/optimizer on the small problem of the contract: what tests are parametrised over."""

from dataclasses import replace

from torch import nn

from sam_bench.config.files import config_dir
from sam_bench.contract.problem import (  # noqa: F401
    BASES,
    EPOCH,
    TOTAL,
    Closure,
    batch,
    frozen,
    net,
    same,
    weights,
)
from sam_bench.contract.subject import Subject

METHODS = sorted(path.stem for path in (config_dir() / "optimizer").glob("*.yaml"))
SUBJECTS = {name: Subject(name, name) for name in METHODS}
# One YAML for each class, that of the class's own page; the others are variants of it.
CLASSES = sorted(
    min((name for name in METHODS if SUBJECTS[name].kind is kind), key=len)
    for kind in {subject.kind for subject in SUBJECTS.values()}
)
# A variant differs from its class in options, which no base knows of: one base shows it.
VARIANTS = {name: replace(SUBJECTS[name], over=("momentum",)) for name in METHODS if name not in CLASSES}
# Without perturbation the method is the base: rho = 0, and what else an option adds to the gradient.
NEUTRAL = {name: dict(subject.claims.neutral) for name, subject in SUBJECTS.items()}


def make(name: str, model: nn.Module, base="momentum", **options):
    """The method `name` with options that fit the small problem."""
    return SUBJECTS[name].make(model, base, **options)


def train(optimizer, model: nn.Module, steps: int, start: int = 0, **data) -> list[Closure]:
    closures = []
    for step in range(start, start + steps):
        closure = Closure(model, step, **data)
        optimizer.step(closure, samples=closure.samples)
        closures.append(closure)
    return closures


def has_option(name: str, option: str) -> bool:
    return option in SUBJECTS[name].takes
