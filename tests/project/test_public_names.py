"""What others build on is documented and typed: every public name of optim, contract and api."""

import inspect
import typing

import pytest

import sam_bench.api
import sam_bench.contract
import sam_bench.optim

MODULES = (sam_bench.optim, sam_bench.contract, sam_bench.api)


def public() -> dict[str, object]:
    """Classes and functions by their dotted name; of api, which has no __all__, those that it defines."""
    found = {}
    for module in MODULES:
        names = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]  # fmt: skip
        found |= {f"{module.__name__}.{name}": getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if inspect.isclass(value) or inspect.isfunction(value)}


def methods(cls: type) -> list[tuple[str, object]]:
    """What the class itself defines, properties as their getters."""
    own = [(name, value) for name, value in vars(cls).items() if not name.startswith("_")]
    opened = [(name, getattr(value, "fget", None) or getattr(value, "__func__", value)) for name, value in own]
    return [(name, value) for name, value in opened if inspect.isfunction(value)]


def test_there_are_some():
    assert len(public()) > 40


@pytest.mark.parametrize("name", public())
def test_it_says_what_it_is(name):
    value = public()[name]
    doc = inspect.cleandoc(vars(value).get("__doc__") or "") if inspect.isclass(value) else inspect.getdoc(value)
    assert doc, f"{name} has no docstring"
    assert not doc.startswith(f"{name.rpartition('.')[2]}("), "the docstring is the one that a dataclass makes"
    if inspect.isclass(value) and not typing.is_typeddict(value):
        inherited = {part for base in value.__mro__[1:] for part in vars(base)}
        missing = [part for part, call in methods(value) if not inspect.getdoc(call) and part not in inherited]
        assert not missing, f"{name}: {missing} have no docstring"


@pytest.mark.parametrize("name", public())
def test_it_says_its_types(name):
    value = public()[name]
    calls = methods(value) if inspect.isclass(value) else [(name, value)]
    for part, call in calls:
        signature = inspect.signature(call)
        untyped = [
            p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name not in ("self", "cls")
        ]
        assert not untyped, f"{name}.{part}: {untyped} have no type"
        assert signature.return_annotation is not signature.empty, f"{name}.{part} does not say what it returns"
