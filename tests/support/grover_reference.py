"""GROVER a second time: one molecule, float64, loops, no batching, no folding. Slow, and meant to be read.

Written from the formulas of Rong et al. 2020 (sections 4.1 to 4.4) and the published code's structure:
dyMPN -> multi-head attention -> sum over neighbours -> feed-forward with the input features -> layer norm -> readout.
"""

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def layer_norm(x, gain, shift):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * gain + shift


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


class Reference:
    """Forward values of a model's weights, given by name; hops counts the message passing steps of every network."""

    def __init__(self, state, heads, blocks, hops):
        self.w = {name: tensor.double().numpy() for name, tensor in state.items()}
        self.heads, self.blocks, self.hops = heads, blocks, hops

    def messages(self, block, network, start, neighbours):
        """dyMPN without the features of the other kind: m_v <- relu(m_v^0 + W sum_{u in N(v)} m_u)."""
        current = [row.copy() for row in start]
        for _ in range(self.hops):
            summed = [sum((current[u] for u in near), np.zeros_like(start[0])) for near in neighbours]
            current = [relu(start[v] + self.w[f"{block}.hop.{network}"] @ summed[v]) for v in range(len(start))]
        return current

    def attention(self, block, row, messages):
        """Attention of one row over the messages of its heads; messages[kind][head][row]."""
        hidden = len(messages[0][0][row])
        width = hidden // self.heads
        query, key, value = (
            [
                self.w[f"{block}.project.{kind}.weight"] @ messages[kind][head][row]
                + self.w[f"{block}.project.{kind}.bias"]
                for head in range(self.heads)
            ]
            for kind in range(3)
        )
        joined = []
        for head in range(self.heads):
            parts = []
            for piece in range(self.heads):
                at = slice(piece * width, (piece + 1) * width)
                scores = np.array([query[head][at] @ key[other][at] for other in range(self.heads)]) / np.sqrt(width)
                p = softmax(scores)
                parts.append(sum(p[other] * value[other][at] for other in range(self.heads)))
            joined.append(self.w[f"{block}.mix"] @ np.concatenate(parts))
        return self.w[f"{block}.out"] @ np.concatenate(joined)

    def branch(self, name, inputs, neighbours, into_atoms, atoms):
        w = self.w
        x = [relu(w[f"{name}.embed"] @ row) for row in inputs]
        x = [layer_norm(row, w[f"{name}.embed_norm.weight"], w[f"{name}.embed_norm.bias"]) for row in x]
        for number in range(self.blocks):
            block = f"{name}.blocks.{number}"
            if x:
                messages = [
                    [self.messages(block, kind * self.heads + head, x, neighbours) for head in range(self.heads)]
                    for kind in range(3)
                ]
                y = [self.attention(block, row, messages) for row in range(len(x))]
                x = [layer_norm(row, w[f"{block}.norm.weight"], w[f"{block}.norm.bias"]) for row in y]
        result = []
        for atom, features in enumerate(atoms):
            summed = sum((x[i] for i in into_atoms[atom]), np.zeros(len(w[f"{name}.norm.weight"])))
            wide = relu(w[f"{name}.wide.weight"] @ np.concatenate([features, summed]) + w[f"{name}.wide.bias"])
            y = w[f"{name}.narrow.weight"] @ wide + w[f"{name}.narrow.bias"]
            result.append(layer_norm(y, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"]))
        return result

    def readout(self, x):
        if "readout.first" not in self.w:
            return np.mean(x, axis=0)
        x = np.stack(x)
        scores = self.w["readout.second"] @ np.tanh(self.w["readout.first"] @ x.T)
        return np.concatenate([softmax(row) @ x for row in scores])

    def __call__(self, atoms, bonds, edges, descriptors):
        """atoms (A, f); bonds (E, g); edges: E pairs (source, target) -> (2, outputs)."""
        near = [[s for s, t in edges if t == atom] for atom in range(len(atoms))]
        incoming = [[e for e, (_, t) in enumerate(edges) if t == atom] for atom in range(len(atoms))]
        leading = [[f for f, (u, v) in enumerate(edges) if v == s and u != t] for s, t in edges]
        directed = [np.concatenate([atoms[s], bonds[e]]) for e, (s, _) in enumerate(edges)]
        views = [
            self.branch("atom_branch", atoms, near, near, atoms),
            self.branch("bond_branch", directed, leading, incoming, atoms),
        ]
        outputs = []
        for view, x in enumerate(views):
            y = np.concatenate([self.readout(x), descriptors])
            layers = sorted({int(n.split(".")[2]) for n in self.w if n.startswith(f"heads.{view}.")})
            for i, layer in enumerate(layers):
                y = relu(y) if i else y
                y = self.w[f"heads.{view}.{layer}.weight"] @ y + self.w[f"heads.{view}.{layer}.bias"]
            outputs.append(y)
        return np.stack(outputs)
