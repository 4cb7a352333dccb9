"""Statistics of a method over seeds × families, arrays in and arrays out.

`reports.stats.bootstrap` computes their intervals.

Axes: `F` strata (a family on one shift axis), `S` seeds; rows may have different numbers of seeds
and end in NaN. A statistic takes the scores [F, S] and the share [..., F, S] that each seed has in
its family, which sums to 1 over the seeds of a family and is 0 where there is no score. With 1/n
for each of n seeds it is the statistic of the scores; with counts/n of a resample, that of the
resample. Families count equally, whatever their numbers of seeds.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reports.stats.score_matrix import FloatArray

# (values [F, S], shares [..., F, S]) → [...]
Statistic = Callable[[FloatArray, FloatArray], FloatArray]


def even_shares(values: FloatArray) -> FloatArray:
    """[F, S] the share 1/n of each of the n seeds of a family, 0 where there is none."""
    found = present(values)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def mean(values: FloatArray, shares: FloatArray) -> FloatArray:
    """Mean over families of their means over seeds, 1/F Σ_f Σ_s w_fs x_fs."""
    return np.asarray(family_means(values, shares).mean(axis=-1))


def median(values: FloatArray, shares: FloatArray) -> FloatArray:
    """Median over families of their means over seeds."""
    return np.asarray(np.median(family_means(values, shares), axis=-1))


def iqm(values: FloatArray, shares: FloatArray) -> FloatArray:
    """Interquartile mean of all scores together, without the lowest and the highest quarter.

        Σ_i v_i x_(i) / Σ_i v_i,   v_i = |[c_(i−1), c_i] ∩ [q, 1 − q]|,   q = ⌊N/4⌋/N

    over the N scores in ascending order, where c_i is the sum of the shares up to x_(i), divided by
    the number of families. If all families have the same number of seeds, ⌊N/4⌋ scores are left out
    at either end; otherwise a quarter of the weight is, rounded down to a multiple of 1/N.

    Source:
      Agarwal et al. 2021 (arXiv 2108.13264), § 4.2; the shares, which let families of different
      sizes count equally, are ours.
    """
    n_families, _ = values.shape
    total = int(present(values).sum())
    cut = (total // 4) / total
    order = np.argsort(values, axis=None)  # NaN comes last, with a share of 0
    ranked = np.nan_to_num(values.ravel()[order])
    weight = shares.reshape(*shares.shape[:-2], -1)[..., order] / n_families  # [..., F S]
    kept = np.diff(np.clip(np.cumsum(weight, axis=-1), cut, 1 - cut), axis=-1, prepend=cut)
    return np.asarray(kept @ ranked / (1 - 2 * cut))


def optimality_gap(values: FloatArray, shares: FloatArray, target: float = 1.0) -> FloatArray:
    """Mean amount by which scores fall short of a target; scores above it count as the target.

        1/F Σ_f Σ_s w_fs max(γ − x_fs, 0)

    Source:
      Agarwal et al. 2021 (arXiv 2108.13264), § 4.3, γ = 1.
    """
    return mean(np.maximum(target - values, 0.0), shares)


def share_above(values: FloatArray, shares: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Share of the scores that lie above each threshold, [..., K] for thresholds [K].

        1/F Σ_f Σ_s w_fs 1[x_fs > τ_k]

    Source:
      Agarwal et al. 2021 (arXiv 2108.13264), § 4.3, run-score distribution.
    """
    above = values > thresholds[:, None, None]  # [K, F, S]
    return np.asarray(
        np.tensordot(shares, above.astype(float), axes=((-2, -1), (-2, -1))) / len(values)
    )


def improvement(
    x: FloatArray, y: FloatArray, x_shares: FloatArray, y_shares: FloatArray
) -> FloatArray:
    """Probability that a seed of one method outscores one of another, averaged over families.

        1/F Σ_f Σ_ij w_fi w'_fj (1[x_fi > y_fj] + ½ 1[x_fi = y_fj])

    Args:
      x, y: [F, S], [F, S'] scores of the two methods in the same families, in the same order.
      x_shares, y_shares: [..., F, S], [..., F, S'].
    Source:
      Mann and Whitney 1947; Agarwal et al. 2021 (arXiv 2108.13264), § 4.3.
    """
    if len(x) != len(y):
        raise ValueError(
            f"the methods have scores in {len(x)} and {len(y)} families; select those that both"
            " have"
        )
    against = np.matmul(x_shares[..., None, :], _better(x, y))[..., 0, :]  # [..., F, S']
    return np.asarray((against * y_shares).sum(axis=-1).mean(axis=-1))


def placement_variances(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variances of the mean terms of x and y in `improvement`, and seed counts, [2 F] each.

    A seed's term is the share of the other method's seeds that it beats, ties counting half, so
    scores need no common unit.

    Source:
      DeLong et al. 1988; Brunner and Munzel 2000, whose degrees of freedom
      `reports.stats.bootstrap.freedom_of` gives.
    """
    better = _better(x, y)
    of_x = (better * even_shares(y)[:, None, :]).sum(axis=2)
    of_y = (better * even_shares(x)[:, :, None]).sum(axis=1)
    found = [
        variances_of(np.where(np.isnan(scores), np.nan, terms))
        for scores, terms in ((x, of_x), (y, of_y))
    ]
    return np.concatenate([variances for variances, _ in found]), np.concatenate(
        [sizes for _, sizes in found]
    )


def family_means(values: FloatArray, shares: FloatArray) -> FloatArray:
    """[..., F] mean over the seeds of each family."""
    return np.asarray((np.nan_to_num(values) * shares).sum(axis=-1))


def variances_of(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """[F] variances of the means over seeds, s²/n, and numbers of seeds n."""
    sizes = present(values).sum(axis=1)
    return np.nanvar(values, axis=1, ddof=1) / sizes, sizes.astype(float)


def present(values: FloatArray) -> NDArray[np.bool_]:
    """[F, S] whether there is a score.

    Raises:
      ValueError: if `values` is not an array of families by seeds, or a family has no score.
    """
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"expected scores of families by seeds [F, S], got an array of shape {values.shape}"
        )
    found = ~np.isnan(values)
    if not found.any(axis=1).all():
        raise ValueError("a family has no score at all; leave it out")
    return found


def _better(x: FloatArray, y: FloatArray) -> FloatArray:
    """[F, S, S'] 1 where a seed of x scores higher than one of y, ½ where they score the same."""
    left = x[:, :, None]
    right = y[:, None, :]
    return np.asarray((left > right) + 0.5 * (left == right))
