"""VariBAD: a policy acting on a belief about the task, which an autoencoder of trials learns.

An encoder reads the trial so far and outputs a belief about the task: a Gaussian over a latent
variable. It is trained to predict the whole trial, past and future, not to increase the return. The
policy sees the state and the belief, and is trained to maximise the return of the whole trial. On a
test task only the belief changes.

Paper: Zintgraf et al. 2020, "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via
Meta-Learning" (arXiv 1910.08348). Official code: lmzintgraf/varibad; settings are those of its
cheetah-vel unless a comment says otherwise.

After its own trial, `varibad+ft` continues with PPO and the autoencoder on the test task alone, on
batches of trials there; `varibad+td3` continues with TD3 instead, starting from its policy.

Differences from that code:
- its settings for other families are not used. Besides those of its walker, below, they are: on
  cheetah-dir 16 epochs of 4 minibatches, two trials per process in a batch, and means that pass
  through a tanh; on the ants half a trial per process in a batch, and one minibatch; on ant-goal
  also ε 0.05, a learning rate that decays from 1e-3 to 0, orthogonal weights of policy and value, a
  belief that is not normalised, a latent of 10 entries, and five autoencoder updates after a batch,
  each on all posteriors and steps, with gradients through whole trials;
- where dynamics vary, states are decoded besides rewards, by a decoder as large as that of its
  walker. On its walker that code does not decode rewards, has a latent of 10 entries, embeds
  actions and rewards in 32 units, has 2 PPO minibatches and ε 0.05, and batches of half a trial per
  process;
- the KL is averaged over the trials of a batch, as the errors are; that code sums it over them, so
  its weight of 0.1 (1 on its walker) corresponds here, for a batch of 10 trials, to 1 (10 where
  dynamics vary);
- only the encoder is told the end of an episode; in that code it is an entry of every state, which
  policy and decoders see too;
- an episode starts from the state to which it was reset; in that code a trial's second episode
  starts from the last state of the first, for policy, value and decoders alike;
- a batch is one trial of each of the budget's tasks (official: of each of 16 processes);
- the number of autoencoder updates follows from the budget and `vae_updates` (official: 15 624, one
  after each batch but the first);
- policy and value have their own embeddings; in that code they share the same two;
- weights start with torch's default scales; in that code those of the GRU are orthogonal, those of
  a unit in a hidden layer of policy or value have norm 5/3, those of a mean norm 1, and the biases
  of all these are 0;
- a trial ended early by falls makes room for another on the same task, and the end of the batch
  cuts trials off, which are replayed up to there; in that code the next one is on a fresh task, and
  one interrupted by the end of the batch continues in the next batch;
- every trial starts with an empty memory; in that code one that starts within a batch remembers the
  last step of the one before it;
- trials are replayed with replacement, from their own batch on; in that code, from the next batch
  on;
- where trials differ in length, posteriors and the steps they predict are drawn for each trial from
  its own steps, with replacement; in that code the draws of one are used on others, so that padding
  is read and predicted, too;
- advantages carry over from one episode of a trial to the next, and a trial that ends by the time
  limit is bootstrapped, because the paper maximises the return of the whole trial. In that code the
  last step of each episode that ends by the time limit has no advantage, which cuts the sum; tried
  on point-goal, that was no better (three seeds: −29 against −26 after an episode);
- policy and autoencoder learn from the batch that completes `precollect` onwards, even if that is
  the very first, which that code skips;
- the action cost is that of the clipped action, as the joints receive it; in that code that of the
  action as it was sampled;
- the normalisers of state, belief and reward are updated after the policy, so that its update
  improves the policy that acted; the first batch is therefore not normalised unless `precollect`
  asks for more than one. In that code the reward's normaliser is updated at every step and the
  others before the policy's update, for which the old densities are then recomputed. In both, the
  belief's normaliser is updated before the encoder;
- training tasks are stratified over the training law and fresh for every batch, in that code for
  every trial.

Read on in: methods/core/actor_critic.py, methods/core/trials.py, methods/core/trial_loop.py.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from methods.api import MakeEnv, Method, Spec, Streams, Trainer
from methods.core.actor_critic import (
    PPO,
    Collected,
    Outputs,
    PPOConfig,
    actor_critic,
    assign_clipped,
    init_actor_critic,
    ppo_loss,
)
from methods.core.distributions import kl, log_prob
from methods.core.nets import Params, init_linear, linear, mlp, spread
from methods.core.normalise import RewardScale, RunningMoments
from methods.core.policy_gradient import copies_of, sampled
from methods.core.ranges import check_ranges
from methods.core.recurrent import gru_cell, init_encoder, memories, seen
from methods.core.td3_stage import OwnStage, TD3StageAdapter, TD3StageConfig
from methods.core.trial_adapter import TrialAdapter
from methods.core.trial_loop import TrialTrainer, steps_of
from methods.core.trial_replay import Recorded, TrialReplay
from methods.core.trials import Choice, Moment, Trials, normalised_advantages, trial_advantages


@dataclass(frozen=True)
class VaribadConfig(PPOConfig):
    """Settings that VariBAD adds to PPO's."""

    embedding: int = 64  # units of the policy's and the value's embeddings of state and belief
    # encoder
    memory: int = 128  # units of the GRU, R
    latent_size: int = 5  # entries of the latent variable, Z
    action_embedding: int = 16
    state_embedding: int = 32
    reward_embedding: int = 16
    # decoders: units of the first hidden layer, the second has half as many
    reward_decoder: int = 64
    state_decoder: int = 256  # the official walker's
    # learning of encoder and decoders
    vae_learning_rate: float = 1e-3  # Adam
    vae_updates: int = 1  # after each update of the policy
    vae_batch: int = 10  # trials
    vae_buffer: int = 10_000  # trials
    posteriors: int = 50  # drawn per trial
    transitions: int = 50  # drawn per posterior
    truncation: int = 50  # steps after which gradients are cut
    kl_weight: float = 1.0
    dynamics_kl_weight: float = 10.0  # the same, where dynamics vary
    vae_max_grad_norm: float = 1.0  # of the encoder's gradient and of each decoder's
    precollect: int = 5_000  # environment steps before the first update
    # trials of a test task in a batch of `varibad+ft` (its gcd with the horizon is used), and in
    # its buffer; ours
    tuned_copies: int = field(default=4, metadata={"stage": "adapt"})
    tuned_buffer: int = field(default=1_000, metadata={"stage": "adapt"})

    def __post_init__(self) -> None:
        super().__post_init__()
        embeddings = ("embedding", "action_embedding", "state_embedding", "reward_embedding")
        sizes = (*embeddings, "memory", "latent_size", "reward_decoder")
        counts = ("vae_batch", "tuned_copies", "posteriors", "transitions", "truncation")
        ranges: dict[str, tuple[float, float]] = dict.fromkeys((*sizes, "state_decoder"), (1, 8192))
        ranges |= dict.fromkeys(counts, (1, 10_000)) | dict.fromkeys(
            ("vae_buffer", "tuned_buffer"), (1, 10_000_000)
        )
        ranges |= dict.fromkeys(("kl_weight", "dynamics_kl_weight"), (0.0, 1e6))
        ranges |= {
            "vae_learning_rate": (1e-9, 1.0),
            "vae_updates": (1, 1000),
            "vae_max_grad_norm": (1e-9, 1e9),
        }
        check_ranges(self, ranges | {"precollect": (0, 1e9)})


def init(spec: Spec, config: VaribadConfig, generator: torch.Generator) -> tuple[Params, Params]:
    """Return fresh weights: those of policy and value, and those of encoder and decoders."""
    n_obs = spec.observation_size
    n_act = spec.action_size
    n_latent = config.latent_size
    embeddings = config.action_embedding, config.state_embedding, config.reward_embedding
    phi = init_encoder(n_obs, n_act, embeddings, config.memory, generator)
    phi |= init_linear("belief", (), config.memory, 2 * n_latent, generator)
    state = ("s", n_obs, config.state_embedding)
    action = ("a", n_act, config.action_embedding)
    phi |= init_decoder(
        "reward",
        n_latent,
        (state, action, state),
        hidden=config.reward_decoder,
        n_out=1,
        generator=generator,
    )
    if spec.kind == "transition":
        phi |= init_decoder(
            "state",
            n_latent,
            (state, action),
            hidden=config.state_decoder,
            n_out=n_obs,
            generator=generator,
        )
    return (
        init_actor_critic(
            n_obs,
            2 * n_latent,
            n_act,
            embedding=config.embedding,
            hidden=config.hidden,
            generator=generator,
        ),
        phi,
    )


def networks(phi: Params) -> list[list[str]]:
    """Return weight names by network: encoder, reward decoder and, if any, state decoder."""
    decoders = [[name for name in phi if name.startswith(kind)] for kind in ("reward", "state")]
    encoder = [name for name in phi if not name.startswith(("reward", "state"))]
    return [network for network in (encoder, *decoders) if network]


def belief(params: Mapping[str, Tensor], memory: Tensor) -> Tensor:
    """Return the posterior q over the latent, (μ, log σ²) [..., 2Z].

    Before the first step, memory is 0.
    """
    return linear(params, "belief", memory)


class Draws(NamedTuple):
    """P posteriors of each trial; for each of them, a latent and D transitions to predict."""

    posterior: Tensor  # [*lead, B, P] number of steps before it, from 0 to the trial's length
    transition: Tensor  # [*lead, B, P, D] indices of steps, from 0 to the length − 1
    noise: Tensor  # [*lead, B, P, Z] standard normal


def draw(length: Tensor, config: VaribadConfig, generator: torch.Generator) -> Draws:
    """Draw uniformly with replacement for trials of `length` [*lead, B], alike for all `lead`."""
    shape = (length.shape[-1], config.posteriors)
    device = generator.device
    posterior = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
    predicted = (*shape, config.transitions)
    transition = torch.rand(predicted, generator=generator, dtype=torch.float64, device=device)
    noise = torch.randn(*shape, config.latent_size, generator=generator, device=device)
    noise = noise.expand(*length.shape, -1, -1)
    steps = length[..., None]
    return Draws((posterior * (steps + 1)).long(), (transition * steps[..., None]).long(), noise)


class Elbo(NamedTuple):
    """ELBO terms of each trial [*lead, B], summed over its posteriors and what each predicts."""

    reward: Tensor  # Σ (r̂ − r)²
    state: Tensor  # Σ mean (ŝ′ − s′)² over the entries; 0 where states are not decoded
    kl: Tensor  # Σ KL(qₜ ‖ qₜ₋₁)


def elbo(
    params: Mapping[str, Tensor], trials: Recorded, draws: Draws, truncation: int | None
) -> Elbo:
    """Return how well the belief after t steps predicts the trial, both past and future, and how
    far step t moved the belief.

        Σₜ Σᵢ −log p(rᵢ, s′ᵢ | sᵢ, aᵢ, z),  z = μₜ + σₜ ε;   Σₜ KL(qₜ ‖ qₜ₋₁),  q₋₁ = N(0, I)

    where −log p is a squared error, averaged over the entries of a state, and t and i run over the
    drawn steps.

    Args:
      truncation: steps after which gradients are cut in the encoder, None for never.
    Source:
      Zintgraf et al. 2020, section 3; the sum over all past and future steps, and q₋₁, are
      as in the official code.
    """
    ended = torch.zeros_like(trials.reward, dtype=torch.bool)
    start = trials.reward.new_zeros(*trials.length.shape, params["gru_m.w"].shape[-2])
    x = seen(params, trials.action, trials.reward, trials.next_obs, trials.ended)
    # [*lead, B, L + 1, 2Z]
    q = belief(
        params, memories(params, "gru", x, trial_ended=ended, start=start, truncation=truncation)
    ).movedim(0, -2)
    before = torch.cat([torch.zeros_like(q[..., :1, :]), q], -2)  # μ = 0 and log σ² = 0 are N(0, I)
    mean, log_var = _at(q, draws.posterior).chunk(2, -1)
    mean_before, log_var_before = _at(before, draws.posterior).chunk(2, -1)
    divergence = kl(mean, 0.5 * log_var, mean_before, 0.5 * log_var_before).sum(-1)
    z = mean + torch.exp(0.5 * log_var) * draws.noise  # [*lead, B, P, Z]
    return Elbo(*_errors(params, trials, draws.transition, z), divergence)


def _errors(
    params: Mapping[str, Tensor], trials: Recorded, transition: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Return squared errors of rewards and states [*lead, B], summed over the draws."""
    flat = transition.flatten(-2)  # [*lead, B, P·D]
    rows = z[..., None, :].expand(*transition.shape, -1).flatten(-4, -2)  # [*lead, B·P·D, Z]

    def step(values: Tensor) -> Tensor:
        return _at(values.movedim(0, -2), flat).flatten(-3, -2)  # [*lead, B·P·D, ·]

    def summed(error: Tensor) -> Tensor:
        return error.square().mean(-1).view(flat.shape).sum(-1)

    next_obs = step(trials.next_obs)
    before = (("s", step(trials.obs)), ("a", step(trials.action)))
    reward = summed(
        decode(params, "reward", rows, (*before, ("s", next_obs))) - step(trials.reward[..., None])
    )
    if "state0.w" not in params:
        return reward, torch.zeros_like(reward)
    return reward, summed(decode(params, "state", rows, before) - next_obs)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Return `values` [..., L, F] at the steps `index` [..., K]: [..., K, F]."""
    return values.gather(-2, index[..., None].expand(*index.shape, values.shape[-1]))


class VaribadAgent:
    """Agent that acts, remembers, and learns.

    Args:
      params: weights of policy and value, and of encoder and decoders; shared by all tasks or each
        with a leading task axis [N].
      states, beliefs, rewards: statistics, updated by `meta_learn`.
      replay: trials that the autoencoder learns from.
      streams: named generators; it uses "actions", "minibatches" and "autoencoder".
      lead: () for shared weights, (N,) for weights of each task's own.
    """

    def __init__(
        self,
        params: tuple[Params, Params],
        states: RunningMoments,
        beliefs: RunningMoments,
        rewards: RewardScale,
        config: VaribadConfig,
        replay: TrialReplay,
        streams: Streams,
        lead: tuple[int, ...] = (),
    ) -> None:
        self.config, self.memory_size, self.replay = config, config.memory, replay
        self.states = states
        self.beliefs = beliefs
        self.rewards = rewards
        self.ppo = PPO(params[0], config, streams.torch("minibatches"), lead)
        self.phi = {name: tensor.detach().clone() for name, tensor in params[1].items()}
        self._adam = torch.optim.Adam(list(self.phi.values()), config.vae_learning_rate, fused=True)
        self._kl_weight = config.dynamics_kl_weight if "state0.w" in self.phi else config.kl_weight
        self._networks = networks(self.phi)
        self._lead = lead
        self._generator = streams.torch("actions")
        self._draws = streams.torch("autoencoder")
        self._collected = self._vae_steps = 0

    @property
    def device(self) -> torch.device:
        """Device of its tensors."""
        return self._generator.device

    @property
    def updates(self) -> int:
        """Steps of both optimisers so far, per task."""
        return self.ppo.updates + self._vae_steps

    # Acting

    def act(self, obs: Tensor, memory: Tensor) -> Choice:
        """See `core.trials.Agent.act`."""
        mean, log_std, value = self._outputs(obs, memory)
        action = sampled((mean, log_std), self._generator)
        return Choice(action, log_prob(action, mean, log_std), value)

    def mean(self, obs: Tensor, memory: Tensor) -> Tensor:
        """Return the most likely actions."""
        return self._outputs(obs, memory).mean

    def value(self, obs: Tensor, memory: Tensor) -> Tensor:
        """Return the value [N, E] of the rest of the trial."""
        return self._outputs(obs, memory).value

    def _outputs(self, obs: Tensor, memory: Tensor) -> Outputs:
        told = self.beliefs.whitened(belief(self.phi, memory))
        return actor_critic(self.ppo.params, self.states.whitened(obs), told)

    def remember(self, memory: Tensor, moment: Moment) -> Tensor:
        """See `core.trials.Agent.remember`."""
        x = seen(self.phi, moment.action, moment.reward, moment.next_obs, moment.ended)
        gates = linear(self.phi, "gru_x", x)
        return gru_cell(self.phi, "gru", gates, memory)

    def recall(self, moments: Moment) -> Tensor:
        """Return the memory [T, N, E, R] before each step of trials [T, N, E, …]."""
        start = torch.zeros(*moments.reward.shape[1:], self.memory_size, device=self.device)
        x = seen(self.phi, moments.action, moments.reward, moments.next_obs, moments.ended)
        with torch.no_grad():
            return memories(self.phi, "gru", x, moments.trial_ended, start)[:-1]

    # Learning

    def learn(self, trials: Trials) -> None:
        """Update the policy by PPO, then the autoencoder."""
        self._learn_policy(trials)
        self._learn_beliefs(trials.moments)

    def meta_learn(self, trials: Trials) -> None:
        """Learn, updating normalisers after the policy; before `precollect` no weight changes."""
        self._collected += trials.moments.reward.numel()
        if self._collected < self.config.precollect:
            self.learn_statistics(trials)
            self.replay.add(trials.moments)
            return
        self._learn_policy(trials)
        self.learn_statistics(trials)
        self._learn_beliefs(trials.moments)

    def _learn_policy(self, trials: Trials) -> None:
        """Run PPO on minibatches of steps; beliefs are fixed and the encoder gets no gradient."""
        moments = trials.moments
        choices = trials.choices
        config = self.config
        reward = self.rewards(moments.reward)
        advantage, returns = trial_advantages(trials, reward, config.gamma, config.lam)
        advantage = normalised_advantages(advantage, alone=bool(self._lead))
        with torch.no_grad():
            told = self.beliefs.whitened(belief(self.phi, trials.memory))
        kept = (
            self.states.whitened(moments.obs),
            told,
            moments.action,
            choices.log_prob,
            choices.value,
            advantage,
            returns,
        )
        rows = [self._rows(part) for part in kept]

        def loss_of(params: Params, index: Tensor) -> Tensor:
            state, told, *samples = (part.index_select(len(self._lead), index) for part in rows)
            return ppo_loss(actor_critic(params, state, told), Collected(*samples), config)

        self.ppo.update(loss_of, rows[-1].shape[-1])

    def _learn_beliefs(self, moments: Moment) -> None:
        """Train the autoencoder on replayed trials, whose rewards are not scaled."""
        config = self.config
        self.replay.add(moments)
        for _ in range(config.vae_updates):
            trials = self.replay.sample(config.vae_batch, self._draws)
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in self.phi.items()}
            terms = elbo(
                leaves, trials, draw(trials.length, config, self._draws), config.truncation
            )
            loss = (terms.reward + terms.state + self._kl_weight * terms.kl).mean(-1)  # [*lead]
            gradient = dict(
                zip(leaves, torch.autograd.grad(loss.sum(), list(leaves.values())), strict=True)
            )
            assign_clipped(self.phi, gradient, self._networks, config.vae_max_grad_norm, self._lead)
            self._adam.step()
            self._vae_steps += 1

    @property
    def statistics(self) -> dict[str, RunningMoments]:
        """Statistics that normalise states, beliefs and rewards."""
        return {"states": self.states, "beliefs": self.beliefs, "rewards": self.rewards.moments}

    def learn_statistics(self, trials: Trials) -> None:
        """Update the normalisers with a batch and the beliefs held in it."""
        self.states.update(trials.moments.obs)
        self.beliefs.update(belief(self.phi, trials.memory))
        self.rewards.learn(trials.moments.reward, trials.moments.trial_ended)

    def _rows(self, values: Tensor) -> Tensor:
        """Flatten [T, N, E, …] → [T·N·E, …], or [N, T·E, …] if tasks learn alone."""
        return values.transpose(0, 1).flatten(1, 2) if self._lead else values.flatten(0, 2)

    def frozen(self) -> "VaribadAgent":
        """Return a copy that later learning does not change, for `mean` and `remember` only."""
        copy = object.__new__(VaribadAgent)
        copy.__dict__.update(self.__dict__)
        copy.ppo = deepcopy(self.ppo)
        copy.phi = {name: tensor.detach().clone() for name, tensor in self.phi.items()}
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimisers, replay and generators; statistics belong to the method."""
        return {
            "ppo": self.ppo.state_dict(),
            "phi": {name: tensor.detach().clone() for name, tensor in self.phi.items()},
            "adam": deepcopy(self._adam.state_dict()),
            "replay": self.replay.state_dict(),
            "counts": [self._collected, self._vae_steps],
            "generators": [self._generator.get_state(), self._draws.get_state()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.ppo.load_state_dict(state["ppo"])
        for name, tensor in self.phi.items():
            tensor.copy_(state["phi"][name])
        # a copy: otherwise Adam would update the caller's tensors
        self._adam.load_state_dict(deepcopy(state["adam"]))
        self._collected, self._vae_steps = state["counts"]
        self.replay.load_state_dict(state["replay"])
        for generator, known in zip(
            (self._generator, self._draws), state["generators"], strict=True
        ):
            generator.set_state(known)


class Varibad(Method):
    """VariBAD with a GRU and PPO."""

    version: ClassVar[int] = 3
    meta_trains: ClassVar[bool] = True
    on_policy: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    eval_mode: str = "deterministic"
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "learning_rate": (3e-4, 7e-4, 2e-3),
        "kl_weight": (0.1, 1.0),
        "dynamics_kl_weight": (0.1, 1.0, 10.0),
        "vae_updates": (1, 3),
        "copies": (1, 2, 3),
        "clip": (0.05, 0.1, 0.2),
    }
    Config: ClassVar[type[VaribadConfig]] = VaribadConfig
    config: VaribadConfig

    def __init__(self, spec: Spec, config: VaribadConfig) -> None:
        self.spec = spec
        self.config = config
        self.theta: Params = {}  # empty until meta-trained or loaded
        self.phi: Params = {}
        self.states = RunningMoments(spec.observation_size)
        self.rewards = RewardScale(config.gamma)
        self.beliefs = RunningMoments(2 * config.latent_size)

    # Meta-training

    def least_budget(self, n_tasks: int) -> int:
        """Return the environment steps up to the first update: `precollect`, in whole batches."""
        per_batch = steps_of(self.config, n_tasks, self.spec.horizon)
        return per_batch * max(1, -(-self.config.precollect // per_batch))

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Return a trainer that learns from trials of `n_tasks` fresh tasks, within `budget` steps.

        Raises:
          ValueError: if `budget`, summed over tasks, does not allow one update.
        """
        config = self.config
        horizon = self.spec.horizon
        least = self.least_budget(n_tasks)
        most = min(config.vae_buffer, budget)  # a trial has at least one step
        agent = self._agent(init(self.spec, config, streams.torch("init")), most, streams)

        def keep() -> None:
            self.theta = agent.ppo.params
            self.phi = agent.phi

        return TrialTrainer(
            make_env,
            horizon,
            n_tasks,
            budget=budget,
            config=config,
            agent=agent,
            least=least,
            keep=keep,
        )

    # Adaptation

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> OwnStage:
        """Return an adapter of one trial on each of `n_tasks`; only the belief changes.

        Raises:
          RuntimeError: if there is no meta-trained policy.
        """
        agent = self._agent(self._trained(), 1, streams)
        return TrialAdapter(make_env, self.spec.horizon, self.config.trial_episodes, agent)

    def _trained(self) -> tuple[Params, Params]:
        if not self.theta:
            raise RuntimeError(
                "VariBAD has no weights yet: finish a trainer or call load_state_dict before"
                " adapter"
            )
        return self.theta, self.phi

    def _agent(
        self,
        params: tuple[Params, Params],
        trials: int,
        streams: Streams,
        lead: tuple[int, ...] = (),
    ) -> VaribadAgent:
        """Return an agent whose replay holds that many `trials`."""
        n_obs, n_act, horizon, *_ = self.spec
        steps = self.config.trial_episodes * horizon
        replay = TrialReplay(trials, steps, n_obs, n_act, streams.device, lead)
        return VaribadAgent(
            params,
            self.states,
            self.beliefs,
            rewards=self.rewards,
            config=self.config,
            replay=replay,
            streams=streams,
            lead=lead,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return weights and the statistics of states, beliefs and rewards."""
        moments = {"states": self.states, "beliefs": self.beliefs, "rewards": self.rewards.moments}
        return {"theta": self.theta, "phi": self.phi} | {
            name: part.state_dict() for name, part in moments.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.theta = dict(state["theta"])
        self.phi = dict(state["phi"])
        self.states.load_state_dict(state["states"])
        self.beliefs.load_state_dict(state["beliefs"])
        self.rewards.moments.load_state_dict(state["rewards"])


class VaribadFinetuned(Varibad):
    """VariBAD whose learner goes on training on the test task."""

    trained_by: ClassVar[str] = "varibad"

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TrialAdapter:
        """Return an adapter: VariBAD's own trial, then PPO and the autoencoder on each task.

        The latter go on while budget remains. The normalisers are fixed.
        """
        config = self.config
        lead = (n_tasks,)
        theta, phi = (spread(params, n_tasks) for params in self._trained())
        agent = self._agent((theta, phi), config.tuned_buffer, streams, lead)
        copies = copies_of(config.tuned_copies, self.spec.horizon)
        return TrialAdapter(
            make_env,
            self.spec.horizon,
            config.trial_episodes,
            agent=agent,
            learn=agent.learn,
            copies=copies,
        )


@dataclass(frozen=True)
class VaribadTD3Config(TD3StageConfig, VaribadConfig):
    """Settings of `varibad+td3`."""


class VaribadTD3(Varibad):
    """VariBAD with TD3 on the test task afterwards."""

    trained_by: ClassVar[str] = "varibad"
    Config: ClassVar[type[VaribadConfig]] = VaribadTD3Config
    config: VaribadTD3Config

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TD3StageAdapter:
        """Return an adapter: VariBAD's own trial, then TD3 from its policy."""
        own = super().adapter(make_env, n_tasks, streams)
        return TD3StageAdapter(own, make_env, self.spec, self.config.td3_config(), streams)


def init_decoder(
    name: str,
    n_latent: int,
    inputs: Sequence[tuple[str, int, int]],
    hidden: int,
    n_out: int,
    generator: torch.Generator,
) -> Params:
    """Return fresh weights: an embedding of each kind of input, and two hidden layers, the second
    with half as many units.

    Args:
      name: prefix of the names of all its layers.
      inputs: kind, entries and embedding units of each; inputs of one kind share an embedding.
      hidden: units of the first hidden layer.
    """
    params = Params()
    half = max(1, hidden // 2)
    for kind, (size, embedding) in {kind: sizes for kind, *sizes in inputs}.items():
        params |= init_linear(f"{name}_{kind}", (), size, embedding, generator)
    n_in = n_latent + sum(embedding for *_, embedding in inputs)
    for layer, (rows, columns) in enumerate(((n_in, hidden), (hidden, half), (half, n_out))):
        params |= init_linear(f"{name}{layer}", (), rows, columns, generator)
    return params


def decode(
    params: Mapping[str, Tensor], name: str, latent: Tensor, inputs: Sequence[tuple[str, Tensor]]
) -> Tensor:
    """Return predictions [..., B, ·] for latents [..., B, Z] and inputs [..., B, ·].

    The last layer is linear.
    """
    told = [linear(params, f"{name}_{kind}", value).relu() for kind, value in inputs]
    return mlp(params, (f"{name}0", f"{name}1", f"{name}2"), torch.cat([latent, *told], -1))
