"""How sharp a loss surface is at its weights: Hessian, loss rise in batches, loss rise in a ball."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sam_bench.sharpness.surface import Surface

BASIS = 32  # number of Lanczos vectors in memory, each as large as the weights
TINY = 1e-300


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue, the norm of H v - value v for its unit vector v, and the number of Hessian products used."""

    value: float
    residual: float
    products: int
    converged: bool


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor], start: Tensor, *, tolerance: float, most: int
) -> Eigenvalue:
    """The algebraically largest eigenvalue of a symmetric matrix, from its products with vectors; `start` (N,).

    Lanczos (1950) with full reorthogonalisation. It restarts from the best vector after BASIS vectors. It has converged
    if the residual is below `tolerance` times the value; the error of the value is then smaller still. It uses at most
    `most` products.

    We do not use scipy's eigsh. With tolerance 0.001 it took 21 products where this takes 10 to 12 (five matrices of
    2,000 rows, ten large eigenvalues over a bulk), and it gives no estimate if the products run out.
    """
    v, products = start / start.norm(), 0
    while True:
        basis, alphas, betas = [v], [], []
        while True:
            w = product(basis[-1])
            products += 1
            alphas.append(torch.dot(w, basis[-1]).item())
            stacked = torch.stack(basis)
            for _ in range(2):  # a single pass is not enough in floating point
                w = w - stacked.T @ (stacked @ w)
            betas.append(w.norm().item())
            values, vectors = torch.linalg.eigh(_tridiagonal(alphas, betas[:-1]))
            value, residual = values[-1].item(), abs(betas[-1] * vectors[-1, -1].item())
            converged = residual <= tolerance * abs(value)
            if converged or products >= most:
                return Eigenvalue(value, residual, products, converged)
            if len(basis) == BASIS:
                v = stacked.T @ vectors[:, -1].to(stacked)
                v = v / v.norm()
                break
            basis.append(w / max(betas[-1], TINY))


def _tridiagonal(diagonal: list[float], beside: list[float]) -> Tensor:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        side = torch.tensor(beside, dtype=torch.float64)
        matrix += torch.diag(side, 1) + torch.diag(side, -1)
    return matrix


def trace_samples(product: Callable[[Tensor], Tensor], like: Tensor, probes: int, generator: torch.Generator) -> Tensor:
    """Values (probes,) whose mean estimates the trace: z . H z for random signs z (Hutchinson 1990)."""
    found = []
    for _ in range(probes):
        z = torch.randint(0, 2, like.shape, generator=generator).to(like) * 2 - 1
        found.append(torch.dot(z, product(z)))
    return torch.stack(found).cpu()


def batch_rises(surface: Surface, groups: list, rho: float, steps: int) -> Tensor:
    """m-sharpness (groups,): for each group of m samples, the largest rise of the loss found within the radius rho.

    Foret et al. (ICLR 2021), section 3.1 and figure 3. The first step is SAM's, `rho * g/||g||`. Each further step goes
    rho along the gradient at the current point and then back onto the ball. The largest rise on the way counts.
    """
    rises = []
    for group in groups:
        before, eps, best = surface.loss(batches=[group]), None, -torch.inf
        for _ in range(steps):
            g = surface.gradient(eps, batches=[group])
            ahead = rho * g / g.norm().clamp(min=TINY)
            eps = ahead if eps is None else eps + ahead
            eps = eps * (rho / eps.norm().clamp(min=rho))
            best = max(best, surface.loss(eps, batches=[group]) - before)
        rises.append(best)
    return torch.tensor(rises, dtype=torch.float64)


def ball_rises(surface: Surface, rho: float, directions: int, generator: torch.Generator) -> Tensor:
    """Loss rises at points drawn uniformly from the ball of radius rho, each with its mirror image (directions,).

    The slope cancels in the mean of a pair. What is left is curvature: about rho^2 trace / (2 (N + 2)).
    """
    n, here = len(surface), surface.loss()
    rises = []
    for _ in range(directions):
        d = torch.randn(n, generator=generator, dtype=torch.float64)
        length = torch.rand((), generator=generator, dtype=torch.float64) ** (1 / n)
        d = (rho * length / d.norm() * d).to(surface.weights)
        rises.append((surface.loss(d) + surface.loss(-d)) / 2 - here)
    return torch.tensor(rises, dtype=torch.float64)
