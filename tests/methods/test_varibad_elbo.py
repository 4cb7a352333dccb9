"""The autoencoder's loss against loops over trials, posteriors and transitions, in plain torch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from methods.api import Spec
from methods.core.nets import Params, spread
from methods.core.trial_replay import Recorded
from methods.varibad import Draws, VaribadConfig, draw, elbo, init

O, A, B, L, Z, N = 4, 2, 3, 7, 3, 2
CONFIG = VaribadConfig(
    memory=5,
    latent_size=Z,
    action_embedding=3,
    state_embedding=4,
    reward_embedding=2,
    reward_decoder=6,
    state_decoder=8,
    posteriors=5,
    transitions=4,
)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(kind: str) -> Params:
    """Weights of a fresh method in float64, with noise added so that biases matter."""
    _, phi = init(Spec(O, A, L, kind), CONFIG, torch.Generator().manual_seed(0))
    return {
        name: tensor.double() + 0.3 * noise(k, *tensor.shape)
        for k, (name, tensor) in enumerate(phi.items())
    }


def trials_of(lengths: list[int], seed: int = 0) -> Recorded:
    """Trials of the given lengths, padded with noise."""
    size = len(lengths)
    parts = (
        noise(seed, L, size, A),
        noise(seed + 1, L, size),
        noise(seed + 2, L, size, O),
        noise(seed + 3, L, size, O),
    )
    return Recorded(*parts, (noise(seed + 4, L, size) > 0.5).double(), torch.tensor(lengths))


def layer(phi: Params, name: str) -> nn.Linear:
    module = nn.Linear(*phi[f"{name}.w"].shape, dtype=torch.float64)
    module.load_state_dict({"weight": phi[f"{name}.w"].T, "bias": phi[f"{name}.b"][0]})
    return module


def posteriors_of(phi: Params, trials: Recorded, b: int) -> list[Independent]:
    """N(0, I), and then the beliefs after 0, 1, … steps of a trial."""
    cell = nn.GRUCell(9, CONFIG.memory, dtype=torch.float64)
    recurrent = {"weight_ih": phi["gru_x.w"].T, "weight_hh": phi["gru_m.w"].T}
    cell.load_state_dict(recurrent | {"bias_ih": phi["gru_x.b"][0], "bias_hh": phi["gru_m.b"][0]})
    memory = torch.zeros(CONFIG.memory).double()
    found = [Independent(Normal(torch.zeros(Z).double(), 1.0), 1)]
    for t in range(int(trials.length[b]) + 1):
        mean, log_var = layer(phi, "belief")(memory).chunk(2)
        found.append(Independent(Normal(mean, log_var.exp().sqrt()), 1))
        if t < trials.length[b]:
            state = torch.cat([trials.next_obs[t, b], trials.ended[t, b][None]])
            parts = ("a", trials.action[t, b]), ("s", state), ("r", trials.reward[t, b][None])
            memory = cell(
                torch.cat([layer(phi, f"see_{name}")(part).relu() for name, part in parts]), memory
            )
    return found


def decoded(phi: Params, name: str, z: Tensor, *inputs: tuple[str, Tensor]) -> Tensor:
    told = [layer(phi, f"{name}_{kind}")(value).relu() for kind, value in inputs]
    h = layer(phi, f"{name}0")(torch.cat([z, *told])).relu()
    return layer(phi, f"{name}2")(layer(phi, f"{name}1")(h).relu())


def naive(phi: Params, trials: Recorded, draws: Draws, b: int) -> list[Tensor]:
    """Sums of reward errors, state errors and divergences of one trial."""
    sums = [torch.zeros(()).double() for _ in range(3)]
    posteriors = posteriors_of(phi, trials, b)
    for p, t in enumerate(draws.posterior[b].tolist()):
        q, before = posteriors[t + 1], posteriors[t]
        sums[2] = sums[2] + kl_divergence(q, before)
        z = q.mean + q.stddev * draws.noise[b, p]
        for i in draws.transition[b, p].tolist():
            next_obs = trials.next_obs[i, b]
            before_it = (("s", trials.obs[i, b]), ("a", trials.action[i, b]))
            guess = decoded(phi, "reward", z, *before_it, ("s", next_obs))
            sums[0] = sums[0] + (guess[0] - trials.reward[i, b]) ** 2
            if "state0.w" in phi:
                guess = decoded(phi, "state", z, *before_it)
                sums[1] = sums[1] + (guess - next_obs).square().mean()
    return sums


def everything(lengths: list[int]) -> Draws:
    """Draws of every posterior of equally long trials, with every transition for each."""
    [length] = set(lengths)
    posterior = torch.arange(length + 1).expand(len(lengths), -1)
    transition = torch.arange(length).expand(*posterior.shape, -1)
    return Draws(posterior, transition, noise(7, *posterior.shape, Z))


def some(lengths: list[int]) -> Draws:
    draws = draw(torch.tensor(lengths), CONFIG, torch.Generator().manual_seed(4))
    return draws._replace(noise=draws.noise.double())


@pytest.mark.parametrize("kind", ["reward", "transition"])
@pytest.mark.parametrize(
    ("lengths", "drawn"),
    [([L] * B, everything), ([L] * B, some), ([L, 2, 5], some), ([1, 4, 1], some)],
)
def test_terms_are_sums_over_trials_posteriors_and_transitions(
    kind: str, lengths: list[int], drawn: Callable[[list[int]], Draws]
) -> None:
    phi = {name: tensor.requires_grad_() for name, tensor in weights(kind).items()}
    trials, draws = trials_of(lengths), drawn(lengths)
    terms = elbo(phi, trials, draws, None)
    for b in range(B):
        for ours, theirs in zip(terms, naive(phi, trials, draws, b), strict=True):
            torch.testing.assert_close(ours[b], theirs, rtol=1e-9, atol=1e-9)
    assert bool(terms.state.any()) is (kind == "transition")


def test_the_first_divergence_is_from_the_normal_and_the_others_from_the_posterior_before() -> None:
    phi, trials = weights("reward"), trials_of([L] * B)
    for t in (0, 1, L):
        draws = Draws(
            torch.full((B, 1), t),
            torch.zeros(B, 1, 1, dtype=torch.int64),
            torch.zeros(B, 1, Z).double(),
        )
        for b in range(B):
            q, before = (posteriors_of(phi, trials, b)[k] for k in (t + 1, t))
            (m, s), (m_0, s_0) = ((d.mean, d.stddev) for d in (q, before))
            expected = (torch.log(s_0 / s) + (s**2 + (m - m_0) ** 2) / (2 * s_0**2) - 0.5).sum()
            torch.testing.assert_close(elbo(phi, trials, draws, None).kl[b], expected)
            if t == 0:
                torch.testing.assert_close(expected, 0.5 * (m**2 + s**2 - 1 - (s**2).log()).sum())


def test_a_padded_batch_is_each_trial_alone() -> None:
    phi, lengths = weights("transition"), [L, 2, 5]
    trials, draws = trials_of(lengths), some(lengths)
    together = elbo(phi, trials, draws, None)
    for b, length in enumerate(lengths):
        parts = (part[:length, b : b + 1] for part in trials[:5])
        alone = Recorded(*parts, trials.length[b : b + 1])
        one = elbo(phi, alone, Draws(*(part[b : b + 1] for part in draws)), None)
        for ours, theirs in zip(together, one, strict=True):
            torch.testing.assert_close(ours[b : b + 1], theirs, rtol=1e-9, atol=1e-12)


def test_tasks_with_weights_and_trials_of_their_own_are_each_task_alone() -> None:
    own = {
        name: tensor + 0.1 * noise(3, *tensor.shape)
        for name, tensor in spread(weights("transition"), N).items()
    }
    lengths = ([L, 2, 5], [3, 6, 4])
    alone = [trials_of(lengths[n], seed=10 * n) for n in range(N)]
    draws = [some(lengths[n]) for n in range(N)]
    joined = Recorded(
        *(torch.stack(parts, 1) for parts in zip(*(t[:5] for t in alone), strict=True)),
        torch.tensor(lengths),
    )
    together = elbo(
        own, joined, Draws(*(torch.stack(parts) for parts in zip(*draws, strict=True))), 3
    )
    for n in range(N):
        one = elbo({name: tensor[n] for name, tensor in own.items()}, alone[n], draws[n], 3)
        for ours, theirs in zip(together, one, strict=True):
            torch.testing.assert_close(ours[n], theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("t", range(L + 1))
def test_a_posterior_rests_on_the_steps_before_it_and_predicts_those_after_it(t: int) -> None:
    phi, trials = weights("reward"), trials_of([L] * B)
    parts = [part.clone().requires_grad_() for part in trials[:3]]
    transition = torch.full((B, 1, 1), L - 1)  # in the future of all posteriors but the last
    draws = Draws(torch.full((B, 1), t), transition, torch.zeros(B, 1, Z).double())
    terms = elbo(
        phi, trials._replace(action=parts[0], reward=parts[1], next_obs=parts[2]), draws, None
    )

    def steps(term: Tensor) -> set[int]:
        gradients = torch.autograd.grad(term.sum(), parts, retain_graph=True, allow_unused=True)
        return {int(index[0]) for g in gradients for index in g.nonzero()}

    assert steps(terms.kl) == set(range(t))
    assert steps(terms.reward) == {*range(t), L - 1}


def test_draws_reach_every_posterior_and_every_transition_of_a_trial_and_none_beyond() -> None:
    length = torch.tensor([1, 3, L])
    config = VaribadConfig(posteriors=200, transitions=30, latent_size=Z)
    draws = draw(length, config, torch.Generator().manual_seed(0))
    for b, steps in enumerate(length.tolist()):
        assert draws.posterior[b].unique().tolist() == list(range(steps + 1))
        assert draws.transition[b].unique().tolist() == list(range(steps))
        share = torch.bincount(draws.posterior[b]) / 200
        assert share.min() > 0.4 / (steps + 1)
    assert draws.noise.shape == (3, 200, Z) and abs(float(draws.noise.std()) - 1) < 0.1
    # each posterior has transitions of its own
    assert not torch.equal(draws.transition[:, 0], draws.transition[:, 1])


def test_tasks_draw_alike_so_that_none_moves_anothers_draws() -> None:
    alone = draw(torch.tensor([4, 2]), CONFIG, torch.Generator().manual_seed(0))
    together = draw(torch.tensor([[4, 2], [7, 5]]), CONFIG, torch.Generator().manual_seed(0))
    for one, both in zip(alone, together, strict=True):
        assert torch.equal(one, both[0])
