"""The trust-region step, for one parameter vector or for many side by side.

Vectors are [..., P] with any leading axes; every product, norm and decision is made separately for
each of them.

Trust Region Policy Optimization, Schulman et al. 2015 (arXiv 1502.05477), appendix C.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]  # v [..., P] → F v [..., P]


class FisherProduct:
    """v → (Jᵀ M J + damping) v, the exact Fisher matrix of Gaussian policies times a vector.

    J is the Jacobian of the policies' means and log σ in the parameters, through whatever lies
    between (an inner adaptation, say), and M the Fisher matrix of a Gaussian in its mean and log σ,
    averaged over samples: 1/σ² for a mean, 2 for a log σ. This is the Hessian of the mean KL
    divergence at the parameters themselves, without its third derivatives. J v is obtained by
    differentiating Jᵀ u, which is linear in u, so that both products are passes through two graphs
    that are built once.

    Args:
      outputs: mean [..., B, A] and log_std [..., 1, A], computed from `params` and attached to
        them.
      params: the parameters, each [*lead, …].
      lead: leading axes of a parameter vector: () if all outputs share one, (N,) if each task has
        its own.
      damping: added to the diagonal.
    """

    def __init__(
        self,
        outputs: tuple[Tensor, Tensor],
        params: Sequence[Tensor],
        lead: tuple[int, ...] = (),
        damping: float = 0.0,
    ) -> None:
        mean, log_std = outputs
        self._params = list(params)
        self._lead = lead
        self._damping = damping
        # only outputs that depend on the parameters: σ may be fixed
        self._outputs = [output for output in outputs if output.requires_grad]
        vectors = max(1, torch.Size(lead).numel())
        # number of policies per parameter vector, over which the divergence is averaged; all may
        # share one σ
        per_mean, per_std = (output[..., 0, 0].numel() // vectors for output in outputs)
        precision = torch.exp(-2.0 * log_std.detach()).expand_as(mean) / (mean.shape[-2] * per_mean)
        metric = {
            id(mean): precision,
            id(log_std): torch.full_like(log_std.detach(), 2.0 / per_std),
        }
        self._metric = [metric[id(output)] for output in self._outputs]
        self._cotangent = [torch.zeros_like(output, requires_grad=True) for output in self._outputs]
        self._pulled = self._pull(self._cotangent, create_graph=True)

    def __call__(self, vector: Tensor) -> Tensor:
        """The product with `vector` [*lead, P]."""
        pieces = unflatten(vector, self._params, self._lead)
        pulled, wanted = zip(
            *[(p, v) for p, v in zip(self._pulled, pieces, strict=True) if p.requires_grad],
            strict=True,
        )
        pushed = torch.autograd.grad(pulled, self._cotangent, wanted, retain_graph=True)
        weighted = [m * u for m, u in zip(self._metric, pushed, strict=True)]
        return flatten(self._pull(weighted), self._lead) + self._damping * vector

    def _pull(self, cotangent: Sequence[Tensor], create_graph: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            self._outputs,
            self._params,
            cotangent,
            retain_graph=True,
            create_graph=create_graph,
            materialize_grads=True,
        )


def conjugate_gradient(
    product: Product, b: Tensor, iterations: int = 10, tolerance: float = 1e-10
) -> Tensor:
    """x ≈ A⁻¹ b for a positive definite A, given by its products.

    Args:
      product: v → A v.
      b: [..., P].
      iterations: maximum number of products.
      tolerance: a vector whose squared residual is below it is left unchanged.
    Source:
      Hestenes and Stiefel 1952.
    """
    x = torch.zeros_like(b)
    residual = b.clone()
    direction = b.clone()
    square = dot(residual, residual)
    for _ in range(iterations):
        if bool((square < tolerance).all()):
            break
        along = product(direction)
        alpha = torch.where(square < tolerance, 0.0, square / dot(direction, along))
        x = x + alpha[..., None] * direction
        residual = residual - alpha[..., None] * along
        fresh = dot(residual, residual)
        direction = (
            residual + torch.where(square < tolerance, 0.0, fresh / square)[..., None] * direction
        )
        square = fresh
    return x


class TrustRegion(NamedTuple):
    """Settings of a trust-region step."""

    max_kl: float = 0.01  # bound δ on the mean KL divergence
    cg_iterations: int = 10
    backtracks: int = 15  # maximum number of tries of the line search
    backtrack_ratio: float = 0.8  # length of a try relative to the one before


class Outcome(NamedTuple):
    """Outcome of a step, for each leading index."""

    params: Tensor  # [..., P], the old ones where it was rejected
    accepted: Tensor  # [...] bool
    kl: Tensor  # [...] of the last try: the accepted or a rejected one
    improvement: Tensor  # [...] of the surrogate there


def trpo_step(
    params: Tensor,
    gradient: Tensor,
    product: Product,
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    region: TrustRegion,
) -> Outcome:
    """Step along F⁻¹ g to the trust region's edge, then shorten until the surrogate improves.

        s = F⁻¹ g,   θ ← θ + βᵏ √(2δ / sᵀ F s) s   for the least k with L(θ) > L(θ_old) and KL ≤ δ

    Args:
      params: [..., P] θ_old. gradient: [..., P] g of the surrogate L, which is maximised.
      product: v → F v.
      evaluate: θ → L(θ), KL(θ_old ‖ θ), each [...].
      region: δ, β and the numbers of tries.
    Returns:
      The new parameters and the outcome of the step, which is rejected if no try succeeds.
    Source:
      Schulman et al. 2015, appendix C.
    """
    direction = conjugate_gradient(product, gradient, region.cg_iterations)
    curvature = dot(direction, product(direction))
    full = direction * torch.sqrt(2.0 * region.max_kl / curvature.clamp(min=1e-12))[..., None]
    before, kl = evaluate(params)
    taken = params
    improvement = torch.zeros_like(before)
    accepted = torch.zeros_like(before, dtype=torch.bool)
    for k in range(region.backtracks):
        tried = torch.where(accepted[..., None], taken, params + region.backtrack_ratio**k * full)
        surrogate, kl = evaluate(tried)
        improvement = surrogate - before
        good = (improvement > 0.0) & (kl <= region.max_kl)  # false for NaN
        taken = torch.where((good & ~accepted)[..., None], tried, taken)
        accepted = accepted | good
        if bool(accepted.all()):
            break
    return Outcome(taken, accepted, kl, improvement)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ a b over the last axis."""
    return (a * b).sum(-1)


def flatten(tensors: Sequence[Tensor], lead: tuple[int, ...] = ()) -> Tensor:
    """Join tensors [*lead, …] into one vector [*lead, P]."""
    return torch.cat([tensor.reshape(*lead, -1) for tensor in tensors], -1)


def unflatten(vector: Tensor, like: Sequence[Tensor], lead: tuple[int, ...] = ()) -> list[Tensor]:
    """Split a vector [*lead, P] into tensors shaped like those of `like`."""
    sizes = [tensor.numel() // max(1, torch.Size(lead).numel()) for tensor in like]
    return [
        piece.reshape(tensor.shape)
        for piece, tensor in zip(torch.split(vector, sizes, -1), like, strict=True)
    ]
