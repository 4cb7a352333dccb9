"""VariBAD: a policy acting on its belief about the task, learned by an autoencoder of trials.

An encoder reads the trial so far and says what it believes of the task: a Gaussian over a latent
variable. It is trained to predict all of the trial, past and future, not to earn; a policy sees the
state and the belief, and is trained to earn much over the whole trial. On a test task nothing but
the belief changes.

Paper: Zintgraf et al. 2020, "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via
Meta-Learning" (arXiv 1910.08348). Official code: lmzintgraf/varibad; settings are those of its
cheetah-vel unless a comment says otherwise.

`varibad+ft` goes on after its own trial: PPO and the autoencoder on the test task alone, on batches
of trials there; `varibad+td3`: TD3 instead, from its policy.

Differences from that code:
- the settings that it has for other families are not used. Beside those of its walker, below, they
  are: on cheetah-dir 16 epochs of 4 minibatches, two trials of each process in a batch, and means
  that pass a tanh; on the ants half a trial of each process in a batch, and one minibatch; on
  ant-goal also ε 0.05, a rate of 1e-3 that falls to 0, orthogonal weights of policy and value, a
  belief that is not normalised, a latent of 10 entries, and five updates of the autoencoder after a
  batch, each on all posteriors and steps, with gradients through whole trials;
- where dynamics vary, states are decoded beside rewards, by a decoder as large as that of its
  walker, whose rewards it does not decode, whose latent has 10 entries, whose actions and rewards
  are embedded in 32, whose PPO has 2 minibatches and ε 0.05, and whose batches hold half a trial of
  each process;
- the KL is averaged over the trials of a batch, as the errors are; that code sums it over them, so
  that its weight of 0.1, or 1 on its walker, is here, for a batch of 10 trials, 1, or 10 where
  dynamics vary;
- the end of an episode is told to the encoder alone; there it is an entry of every state, which
  policy and decoders see too;
- an episode begins with the state that its reset made; there, a trial's second one begins with the
  last state of the first, for policy, value and decoders alike;
- a batch is a trial of each of the budget's tasks (official: of 16 processes);
- how many updates the autoencoder makes follows from the budget and `vae_updates` (official:
  15 624, one after each batch but the first);
- policy and value have embeddings of their own, there the same two;
- weights begin with torch's default scales; there, those of the GRU are orthogonal, those of a unit
  in a hidden layer of policy or value have norm 5/3, those of a mean norm 1, and the biases of all
  these are 0;
- a trial that falls end early makes room for another of the same task, and the batch's end cuts one
  off, which is replayed as far as it goes; there, the next one is of a fresh task, and one that the
  batch's end interrupts goes on in the next batch;
- every trial begins with an empty memory; there, one that begins within a batch remembers the last
  step of the one before it;
- trials are replayed with replacement and at once, there from the batch after theirs on;
- of trials that differ in length, each draws from its own steps, with replacement, its posteriors
  and what they predict; there, the draws of one are used on others, so that padding is read and
  predicted, too;
- advantages go on from one episode of a trial to the next, and the trial's end by the clock is
  bootstrapped: what the paper maximises is the return of the whole trial. There, the last step of
  each episode that the clock ends has no advantage, which cuts the sum; tried on point-goal, that
  was no better (three seeds: −29 against −26 after an episode);
- policy and autoencoder learn from the batch on that completes `precollect`, be it the first of
  all, which that code leaves out;
- the cost of an action is that of the action as the joints get it, clipped; there, of the action as
  it was drawn;
- the normalisers of state, belief and reward move after the policy's update, so that it improves
  the policy that acted: the first batch is seen raw unless `precollect` asks for more than one.
  There, the reward's moves with every step and the others' before the update, for which the old
  densities are then computed anew. In both the belief's moves before the encoder does;
- training tasks are stratified over their law and fresh for every batch, there for every trial.

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
    """Settings of VariBAD beside PPO's."""

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
    # learning of both
    vae_learning_rate: float = 1e-3  # Adam
    vae_updates: int = 1  # after each of the policy's
    vae_batch: int = 10  # trials
    vae_buffer: int = 10_000  # trials
    posteriors: int = 50  # drawn of each trial
    transitions: int = 50  # drawn for each posterior
    truncation: int = 50  # steps after which gradients are cut
    kl_weight: float = 1.0
    dynamics_kl_weight: float = 10.0  # the same, where dynamics vary
    vae_max_grad_norm: float = 1.0  # of the encoder's gradient and of each decoder's
    precollect: int = 5_000  # environment steps before the first update
    # trials of a test task in a batch of `varibad+ft`, fewer where they do not divide the horizon,
    # and in its buffer; ours
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
    """Fresh weights: those of policy and value, and those of encoder and decoders."""
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
    """Weight names of each network: encoder, reward decoder and, if there is one, state decoder."""
    decoders = [[name for name in phi if name.startswith(kind)] for kind in ("reward", "state")]
    encoder = [name for name in phi if not name.startswith(("reward", "state"))]
    return [network for network in (encoder, *decoders) if network]


def belief(params: Mapping[str, Tensor], memory: Tensor) -> Tensor:
    """Posterior q over the latent, (μ, log σ²) [..., 2Z]; for memory 0, before the first step."""
    return linear(params, "belief", memory)


class Draws(NamedTuple):
    """Of each trial, P posteriors; of each of them, a latent and D transitions to predict."""

    posterior: Tensor  # [*lead, B, P] after how many steps, from 0 to the trial's length
    transition: Tensor  # [*lead, B, P, D] which steps, from 0 to the length − 1
    noise: Tensor  # [*lead, B, P, Z] standard normal


def draw(length: Tensor, config: VaribadConfig, generator: torch.Generator) -> Draws:
    """Draws uniformly with replacement, for trials of `length` [*lead, B]; alike for all `lead`."""
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
    """Terms of each trial [*lead, B], summed over its posteriors and what each predicts."""

    reward: Tensor  # Σ (r̂ − r)²
    state: Tensor  # Σ mean (ŝ′ − s′)² over the entries; 0 where states are not decoded
    kl: Tensor  # Σ KL(qₜ ‖ qₜ₋₁)


def elbo(
    params: Mapping[str, Tensor], trials: Recorded, draws: Draws, truncation: int | None
) -> Elbo:
    """How well what is believed after t steps predicts the trial, its past and its future, and how
    far each step moved it.

        Σₜ Σᵢ −log p(rᵢ, s′ᵢ | sᵢ, aᵢ, z),  z = μₜ + σₜ ε;   Σₜ KL(qₜ ‖ qₜ₋₁),  q₋₁ = N(0, I)

    where −log p is a squared error, its mean over the entries of a state, and the steps t and i are
    those drawn.

    Args:
      truncation: steps after which gradients are cut in the encoder, None for never.
    Source:
      Zintgraf et al. 2020, section 3; the sum over all past and future steps, and q₋₁, as the
      official code has them.
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
    """Squared errors of rewards and states [*lead, B], summed over posteriors and transitions."""
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
    """[..., L, F] at the steps [..., K]: [..., K, F]."""
    return values.gather(-2, index[..., None].expand(*index.shape, values.shape[-1]))


class VaribadAgent:
    """Acts, remembers, and learns.

    Args:
      params: weights of policy and value, and of encoder and decoders; shared by all tasks or each
        with a leading axis [N].
      states, beliefs, rewards: statistics; they move with `meta_learn`.
      replay: what the autoencoder learns from.
      streams: named generators; "actions", "minibatches" and "autoencoder" are drawn from.
      lead: () or (N,).
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
        """Of its tensors."""
        return self._generator.device

    @property
    def updates(self) -> int:
        """Steps of both optimisers so far, per task."""
        return self.ppo.updates + self._vae_steps

    # Acting

    def act(self, obs: Tensor, memory: Tensor) -> Choice:
        """As `core.trials.Agent.act`."""
        mean, log_std, value = self._outputs(obs, memory)
        action = sampled((mean, log_std), self._generator)
        return Choice(action, log_prob(action, mean, log_std), value)

    def mean(self, obs: Tensor, memory: Tensor) -> Tensor:
        """The most likely action."""
        return self._outputs(obs, memory).mean

    def value(self, obs: Tensor, memory: Tensor) -> Tensor:
        """[N, E] of what is to come in the trial."""
        return self._outputs(obs, memory).value

    def _outputs(self, obs: Tensor, memory: Tensor) -> Outputs:
        told = self.beliefs.whitened(belief(self.phi, memory))
        return actor_critic(self.ppo.params, self.states.whitened(obs), told)

    def remember(self, memory: Tensor, moment: Moment) -> Tensor:
        """As `core.trials.Agent.remember`."""
        x = seen(self.phi, moment.action, moment.reward, moment.next_obs, moment.ended)
        gates = linear(self.phi, "gru_x", x)
        return gru_cell(self.phi, "gru", gates, memory)

    def recall(self, moments: Moment) -> Tensor:
        """The memory [T, N, E, R] before each step of trials [T, N, E, …]."""
        start = torch.zeros(*moments.reward.shape[1:], self.memory_size, device=self.device)
        x = seen(self.phi, moments.action, moments.reward, moments.next_obs, moments.ended)
        with torch.no_grad():
            return memories(self.phi, "gru", x, moments.trial_ended, start)[:-1]

    # Learning

    def learn(self, trials: Trials) -> None:
        """PPO, then the autoencoder."""
        self._learn_policy(trials)
        self._learn_beliefs(trials.moments)

    def meta_learn(self, trials: Trials) -> None:
        """Learn, with normalisers updated after the policy; before `precollect` no weight moves."""
        self._collected += trials.moments.reward.numel()
        if self._collected < self.config.precollect:
            self.learn_statistics(trials)
            self.replay.add(trials.moments)
            return
        self._learn_policy(trials)
        self.learn_statistics(trials)
        self._learn_beliefs(trials.moments)

    def _learn_policy(self, trials: Trials) -> None:
        """PPO in minibatches of steps; beliefs are fixed and the encoder gets no gradient."""
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
        """The autoencoder on trials of the past, whose rewards are as they were, not scaled."""
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
        """What normalises states, beliefs and rewards."""
        return {"states": self.states, "beliefs": self.beliefs, "rewards": self.rewards.moments}

    def learn_statistics(self, trials: Trials) -> None:
        """Let the normalisers see a batch, and what was believed in it."""
        self.states.update(trials.moments.obs)
        self.beliefs.update(belief(self.phi, trials.memory))
        self.rewards.learn(trials.moments.reward, trials.moments.trial_ended)

    def _rows(self, values: Tensor) -> Tensor:
        """[T, N, E, …] → [T·N·E, …], or [N, T·E, …] where tasks learn alone."""
        return values.transpose(0, 1).flatten(1, 2) if self._lead else values.flatten(0, 2)

    def frozen(self) -> "VaribadAgent":
        """A copy that learning does not reach; it is asked for means only."""
        copy = object.__new__(VaribadAgent)
        copy.__dict__.update(self.__dict__)
        copy.ppo = deepcopy(self.ppo)
        copy.phi = {name: tensor.detach().clone() for name, tensor in self.phi.items()}
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers, replay and generators; the statistics are the method's."""
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
        # Adam would go on in the caller's tensors
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
        """Environment steps of the first update: as many whole batches as `precollect` needs."""
        per_batch = steps_of(self.config, n_tasks, self.spec.horizon)
        return per_batch * max(1, -(-self.config.precollect // per_batch))

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Trials of `n_tasks` fresh tasks and updates, while `budget` (steps over tasks) allows.

        Raises:
          ValueError: if they do not allow one.
        """
        config = self.config
        horizon = self.spec.horizon
        least = self.least_budget(n_tasks)
        most = min(config.vae_buffer, budget)  # a trial has a step at least
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
        """One trial on each of `n_tasks`; only the belief changes.

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
        """An agent that replays so many trials."""
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
        """Weights, and the statistics of states, beliefs and rewards."""
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
        """VariBAD's own trial, then PPO and the autoencoder on each task while budget remains.

        The normalisers are fixed.
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
        """VariBAD's own trial, then TD3 from its policy."""
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
    """Fresh weights: an embedding of each kind of input, and two hidden layers, the second of half
    as many units.

    Args:
      name: begins the names of all its layers.
      inputs: of each its kind, entries, and units of the embedding; inputs of one kind share an
        embedding.
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
    """Predictions [..., B, ·] of latents [..., B, Z] and inputs [..., B, ·]; last layer linear."""
    told = [linear(params, f"{name}_{kind}", value).relu() for kind, value in inputs]
    return mlp(params, (f"{name}0", f"{name}1", f"{name}2"), torch.cat([latent, *told], -1))
