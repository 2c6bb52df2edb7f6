"""Property-based: any shapes, dtypes and groups."""

import io

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.methods import CLASSES, NEUTRAL, frozen, make, same
from torch import nn

quick = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
shapes = st.lists(st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple), min_size=1, max_size=6)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


class Bag(nn.Module):
    """Parameters of any shape; the loss of sample i pulls every one towards its own target."""

    def __init__(self, sizes, dtype):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.bag = nn.ParameterList(torch.randn(size, generator=generator).to(dtype) for size in sizes)

    def closure(self, n: int = 4):
        def closure(index=None, backward=True):
            targets = torch.arange(n) if index is None else index
            losses = torch.stack([
                sum(((p.float() - t).square() * (1 + k)).mean() for k, p in enumerate(self.bag)) for t in targets
            ])  # fmt: skip
            if backward:
                losses.mean().backward()
            return losses.detach()

        return closure


def groups(model: Bag, cut: int, rho: float) -> list[dict]:
    params = list(model.bag)
    cut = cut % len(params)
    parts = [part for part in (params[:cut], params[cut:]) if part]
    return [{"params": part} | ({"rho": rho} if i else {}) for i, part in enumerate(parts)]


@pytest.mark.parametrize("name", CLASSES)
@quick
@given(sizes=shapes, dtype=dtypes, cut=st.integers(0, 5), rho=st.floats(0, 1))
def test_any_shapes_dtypes_and_groups(name, sizes, dtype, cut, rho):
    model = Bag(sizes, dtype)
    optimizer = make(name, model, torch.optim.Adam(groups(model, cut, rho), lr=0.01))
    layout = [(p.shape, p.dtype, p.data_ptr()) for p in model.bag]
    for _step in range(6):
        assert optimizer.step(model.closure(), samples=torch.arange(4)).isfinite()
    assert (optimizer.memory["step"], optimizer.memory["skipped"]) == (6, 0)
    assert all(v.isfinite().all() for v in optimizer.memory.values() if isinstance(v, torch.Tensor))
    assert [(p.shape, p.dtype, p.data_ptr()) for p in model.bag] == layout
    assert all(p.isfinite().all() for p in model.bag)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert same(torch.load(file, weights_only=True), optimizer.state_dict())


@pytest.mark.parametrize("name", CLASSES)
@quick
@given(sizes=shapes, dtype=dtypes, cut=st.integers(0, 5))
def test_rho_zero_is_the_base_for_any_shapes(name, sizes, dtype, cut):
    model, bare_model = Bag(sizes, dtype), Bag(sizes, dtype)
    base, bare = (torch.optim.SGD(groups(m, cut, 0.0), lr=0.01, momentum=0.9) for m in (model, bare_model))
    optimizer = make(name, model, base, rho=0.0, **NEUTRAL.get(name, {}))
    for _step in range(5):
        optimizer.step(model.closure(), samples=torch.arange(4))
        bare.zero_grad()
        bare_model.closure()()
        bare.step()
    assert same(frozen(list(model.bag)), frozen(list(bare_model.bag)))
