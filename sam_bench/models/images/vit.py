"""Vision transformer: Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929), with the sizes of DeiT (arXiv 2012.12877)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Pre-norm self-attention and a two-layer network, each with a shortcut: (n, tokens, width) -> the same."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_network = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attend(self.norm_attention(x)))
        return x + self.dropout(self.network(self.norm_network(x)))

    def attend(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width))


class ViT(nn.Module):
    """Patches, a class token, learned positions, `depth` blocks: batch.x (n, C, size, size) -> logits (n, num_outputs).

    Raises ValueError if `patch` does not divide the image size, or `heads` the width.
    """

    def __init__(self, num_outputs: int, inputs: dict[str, int], patch: int, width: int, depth: int, heads: int,
                 dropout: float = 0.0):  # fmt: skip
        super().__init__()
        if inputs["size"] % patch or width % heads:
            raise ValueError(f"patch {patch} must divide the size {inputs['size']}, heads {heads} the width {width}")
        self.embed = nn.Conv2d(inputs["channels"], width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + (inputs["size"] // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, num_outputs)
        self.initialise()

    def initialise(self) -> None:
        """Truncated normals with deviation 0.02 and zero biases, as in DeiT."""
        for weight in (self.token, self.position, *(m.weight for m in self.modules() if isinstance(m, nn.Linear))):
            nn.init.trunc_normal_(weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, batch) -> Tensor:
        patches = self.embed(batch.x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(patches), -1, -1), patches], dim=1) + self.position
        return self.head(self.norm(self.blocks(tokens))[:, 0])
