"""The training loss on a fixed set of samples, as a twice differentiable function of the weights, in float64."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters


class Wide:
    """A batch whose floating-point tensors are returned in float64; everything else is unchanged."""

    def __init__(self, batch: Any):
        self._batch = batch

    def __len__(self) -> int:
        return len(self._batch)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._batch, name)
        if isinstance(value, Tensor) and value.is_floating_point():
            value = value.double()
        self.__dict__[name] = value
        return value


class Surface:
    """Mean loss over batches, with its gradient and Hessian products; vectors are flat (N,), float64.

    `loss(model, batch)` returns one value per sample (n,). The model is a float64 copy in evaluation mode, without
    dropout and with fixed running statistics. So the loss is a function of the weights alone.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]):
        self.model = copy.deepcopy(model).double().eval()
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        self.batches, self._loss = [Wide(batch) for batch in batches], loss
        self.weights = parameters_to_vector(self.params).detach().clone()

    def __len__(self) -> int:
        """The number of weights."""
        return len(self.weights)

    @contextmanager
    def at(self, eps: Tensor) -> Iterator[None]:
        """A context in which the weights are `w + eps`."""
        vector_to_parameters(self.weights + eps, self.params)
        try:
            yield
        finally:
            vector_to_parameters(self.weights, self.params)

    def _parts(self, batches: Sequence[Wide] | None) -> Iterator[Tensor]:
        """Each batch's share of the mean loss."""
        chosen = self.batches if batches is None else batches
        samples = sum(map(len, chosen))
        for batch in chosen:
            # Fused attention kernels have no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                yield self._loss(self.model, batch).sum() / samples

    @torch.no_grad()
    def loss(self, eps: Tensor | None = None, batches: Sequence[Wide] | None = None) -> float:
        """The mean loss at `w + eps`, over all batches or the given ones."""
        with self.at(torch.zeros_like(self.weights) if eps is None else eps):
            return sum(part.item() for part in self._parts(batches))

    def gradient(self, eps: Tensor | None = None, batches: Sequence[Wide] | None = None) -> Tensor:
        """The gradient at `w + eps` (N,)."""
        total = torch.zeros_like(self.weights)
        with self.at(total if eps is None else eps):
            for part in self._parts(batches):
                total += _flat(torch.autograd.grad(part, self.params, materialize_grads=True))
        return total

    def product(self, v: Tensor) -> Tensor:
        """The Hessian at `w` times v (N,), by differentiating twice (Pearlmutter 1994)."""
        total = torch.zeros_like(self.weights)
        for part in self._parts(None):
            slope = torch.autograd.grad(part, self.params, create_graph=True, materialize_grads=True)
            total += _flat(torch.autograd.grad(_flat(slope) @ v, self.params, materialize_grads=True))
        return total


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])
