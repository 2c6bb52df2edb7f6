"""The block of GROVER: message-passing networks as queries, keys and values, and attention over the heads' messages."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_bench.errors import UsageError, did_you_mean
from sam_bench.models.molecules.bags import at_least_single, bag_sum, repeat_bags
from sam_bench.models.molecules.grover_cache import project_in_cache
from sam_bench.models.molecules.grover_native import attended as attended_natively
from sam_bench.models.molecules.grover_native import fits
from sam_bench.models.molecules.grover_together import messages_together

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.1),
    "tanh": torch.tanh,
    "selu": functional.selu,
    "elu": functional.elu,
}

JOINED = 16  # rows of one product in attention


class Activation(nn.Module):
    """One of ACTIVATIONS, or "prelu" with a learned slope for each of `slopes` leading rows of its input."""

    def __init__(self, kind: str, slopes: int = 1):
        super().__init__()
        if kind != "prelu" and kind not in ACTIVATIONS:
            raise UsageError(f"Unknown activation {kind!r}. {did_you_mean(kind, [*ACTIVATIONS, 'prelu'])}")
        self.kind = kind
        self.slope = nn.Parameter(torch.full((slopes,), 0.25)) if kind == "prelu" else None

    def forward(self, x: Tensor, rows: list[int] | None = None) -> Tensor:
        if self.slope is None:
            return ACTIVATIONS[self.kind](x)
        if rows is None:
            slope: Tensor = self.slope
        else:  # chosen one by one: a list as index makes the host wait for a GPU
            slope = torch.stack([self.slope[row] for row in rows]).view(-1, 1, 1)
        return torch.where(x > 0, x, slope * x)


def random_hops(depth: int, count: int) -> list[int]:
    """Hops of `count` networks in training: int(z) - 1, at least 0; z normal around depth, sigma 1, cut at +-3."""
    # Drawn on the CPU for every device: every checkpoint saves its generator, and nothing waits for the device.
    inside = math.erf(3 / math.sqrt(2))
    normal = math.sqrt(2) * torch.erfinv((2 * torch.rand(count, dtype=torch.float64) - 1) * inside)
    return (normal + depth).long().sub(1).clamp(min=0).tolist()


def matrix(out_features: int, in_features: int) -> nn.Parameter:
    """(out, in) with Xavier's normal initialisation, like all of GROVER's matrices."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(out_features, in_features)))


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with Xavier's normal initialisation and a bias of zero."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def pass_messages(
    x: Tensor, matrices: Sequence[Tensor], bags: tuple, hops: list[int], act: Callable[[Tensor, list[int]], Tensor]
) -> Tensor:
    """Message networks side by side: x (N, d), k matrices (d, d) -> (k, N, d).

    One hop of network i is m <- act(x + W_i sum of the neighbours' m), from m = x; network i takes hops[i] of them.
    """
    networks, (rows, hidden) = len(matrices), x.shape
    order = sorted(range(networks), key=lambda i: -hops[i])  # those that are still running come first
    weights = torch.stack([matrices[i] for i in order]).transpose(1, 2)
    done: list[Tensor] = []
    # All networks start from the same messages, so one sum over neighbours serves their first hop.
    message = x.expand(networks, rows, hidden)
    summed = bag_sum(x, bags).expand(networks, rows, hidden)
    for hop in range(max(hops) + 1):
        running = sum(h > hop for h in hops)
        if running < len(message):
            message, finished = message.split([running, len(message) - running])
            done = [*finished.unbind(0), *done]
        if not running:
            break
        if hop:
            summed = bag_sum(message.reshape(-1, hidden), repeat_bags(bags, running)).view(running, rows, hidden)
        message = torch.baddbmm(x.expand(running, rows, hidden), summed[:running], weights[:running])
        message = act(message, order[:running])
    place = {network: i for i, network in enumerate(order)}
    return torch.stack([done[place[i]] for i in range(networks)])


def joined(heads: int) -> tuple[int, int]:
    """How many slices of a message, and how many rows of x, one product of `attend` takes."""
    slices = max(n for n in range(1, heads + 1) if heads % n == 0 and (n == 1 or heads * n <= JOINED))
    return slices, max(1, JOINED // heads**2)


def weight_of_others(heads: int, like: Tensor) -> Tensor:
    """What `attend` adds to the scores: -inf between what one product joins and what does not belong together."""
    slices, together = joined(heads)
    part = torch.arange(together * heads * slices, device=like.device)
    part = part // (heads * slices) * slices + part % slices
    return torch.where(part[:, None] == part, like.new_zeros(()), -torch.inf)


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, drop: Callable[[Tensor], Tensor], apart: Tensor
) -> Tensor:
    """Attention over the messages of a row, 3 x (N, heads * d) -> (N, heads * d), columns (head, slice, width).

    A message has as many slices as there are heads, and a slice attends to the same slice of all heads. Products of
    `heads` rows would spend their time on set-up. So those of several slices, and of several rows of x where the heads
    are few, are one product: what a slice would see of the others has the weight zero (`apart`: weight_of_others).
    """
    rows, width = len(query), query.shape[1] // heads**2
    slices, together = joined(heads)

    def join(x: Tensor) -> Tensor:
        x = functional.pad(x, (0, 0, 0, -rows % together)) if rows % together else x
        return x.view(-1, heads, heads // slices, slices, width).transpose(1, 2).reshape(-1, len(apart), width)

    query, key, value = map(join, (query, key, value))
    scores = torch.baddbmm(apart.expand(len(query), -1, -1), query, key.transpose(1, 2), alpha=1 / math.sqrt(width))
    attended = torch.bmm(drop(scores.softmax(-1)), value)
    attended = attended.view(-1, heads // slices, heads, slices, width).transpose(1, 2).flatten(1)
    return attended if len(attended) == rows else attended[:rows]  # the gradient of a slice is a copy


class Block(nn.Module):
    """3 x heads message networks (dyMPN), then attention of every row over the heads' messages (section 4.1)."""

    def __init__(self, hidden: int, heads: int, depth: int, dropout: float, activation: str, kernels: str = "torch"):
        super().__init__()
        self.heads, self.depth, self.dropout, self.kernels = heads, depth, dropout, kernels
        self.hop = nn.ParameterList([matrix(hidden, hidden) for _ in range(3 * heads)])  # all queries, keys, values
        self.hop_activation = Activation(activation, 3 * heads)
        self.project = nn.ModuleList([linear(hidden, hidden) for _ in range(3)])
        self.mix = matrix(hidden, hidden)
        self.out = matrix(hidden, hidden * heads)
        self.norm = nn.LayerNorm(hidden)
        self._known: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def forward(self, x: Tensor, bags: tuple) -> Tensor:
        """x (N, hidden) -> (N, hidden)."""
        hidden, heads = x.shape[1], self.heads
        hops = random_hops(self.depth, 3 * heads) if self.training else [self.depth - 1] * 3 * heads
        weight, bias = (torch.stack([getattr(layer, name) for layer in self.project]) for name in ("weight", "bias"))

        def plain(x: Tensor, matrices: Sequence[Tensor], weight: Tensor, bias: Tensor) -> Tensor:
            return self._attended(x, matrices, weight, bias, bags, hops)

        if self.kernels == "native" and fits(x) and fits(weight):
            attended = attended_natively(x, list(self.hop), weight, bias, bags, hops, plain)
        else:
            attended = plain(x, list(self.hop), weight, bias)
        with torch.autocast(x.device.type, enabled=False):
            # No function stands between the two output layers, so they are one.
            both = (self.out.view(hidden, heads, hidden) @ self.mix).flatten(1)
        return self._drop(self.norm(functional.linear(attended, both)))

    def _attended(
        self, x: Tensor, matrices: Sequence[Tensor], weight: Tensor, bias: Tensor, bags: tuple, hops: list[int]
    ) -> Tensor:
        """Messages, projected, and attention over them: (N, heads * hidden)."""
        simple = self.hop_activation.kind == "relu" and not (self.training and self.dropout > 0)
        if simple and x.device.type == "cpu":
            projected: Sequence[Tensor] = project_in_cache(x, matrices, weight, bias, bags, hops)
        else:
            projected = self._at_once(x, matrices, weight, bias, bags, hops, simple)
        with torch.autocast(x.device.type, enabled=False):  # thousands of small products gain nothing from bf16
            query, key, value = (at_least_single(part) for part in projected)
            return attend(query, key, value, self.heads, self._drop, self._apart(query))

    def _apart(self, like: Tensor) -> Tensor:
        """weight_of_others, made once: it takes ten launches. No buffer, which several processes would send around."""
        key = like.device, like.dtype
        if key not in self._known:
            self._known[key] = weight_of_others(self.heads, like)
        return self._known[key]

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)

    def _at_once(
        self,
        x: Tensor,
        matrices: Sequence[Tensor],
        weight: Tensor,
        bias: Tensor,
        bags: tuple,
        hops: list[int],
        simple: bool,
    ) -> Sequence[Tensor]:
        """project_in_cache in few operations, as suits a GPU, and for any activation."""

        def slowly(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
            return pass_messages(x, matrices, bags, hops, lambda m, rows: self._drop(self.hop_activation(m, rows)))

        messages = messages_together(x, matrices, bags, hops, slowly) if simple else slowly(x, matrices)
        projected = torch.baddbmm(bias[:, None], messages.view(3, -1, x.shape[1]), weight.transpose(1, 2))
        return projected.view(3, self.heads, *x.shape).transpose(1, 2).flatten(2).unbind(0)
