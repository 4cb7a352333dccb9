"""RL²: a recurrent policy that learns to learn, by RL over trials of several episodes.

The policy acts on a memory of the trial: of every action, reward and state so far, across episodes.
It is trained to maximise the return of the whole trial, so it learns to identify the task. On a
test task only the memory changes.

Papers: Duan et al. 2016, "RL²: Fast Reinforcement Learning via Slow Reinforcement Learning" (arXiv
1611.02779); Wang et al. 2016, "Learning to reinforcement learn" (arXiv 1611.05763). Official code:
none for the first; settings are those of RL² in lmzintgraf/varibad, its usual stand-in, on
cheetah-vel, unless a comment says otherwise.

After its own trial, `rl2+ft` continues with PPO on the test task alone, on batches of trials there;
`rl2+td3` continues with TD3 instead, starting from its policy.

Differences from that code:
- its settings for other families are not used: half a trial per process in a batch on the ants,
  walker and cheetah-dir, ε 0.05 on the ants and walker, one minibatch on ant-goal and walker, and
  on ant-goal also a learning rate that decays from 3e-4 to 0, orthogonal weights of policy and
  value, and one more layer of 64 units before them;
- a batch is one trial of each of the budget's tasks (official: two of each of 16 processes);
- a minibatch consists of whole trials, and its memory is computed with it; in that code it consists
  of steps drawn from all trials, and the memory is computed once per epoch;
- between memory and policy is a single layer, not one each for a mean and a log-variance;
- weights start with torch's default scales; in that code those of the GRU are orthogonal, those of
  a unit in a hidden layer of policy or value have norm 5/3, those of a mean norm 1, and the biases
  of all these are 0;
- a trial ended early by falls makes room for another on the same task, and the end of the batch
  cuts trials off; in that code the next one is on a fresh task, and one interrupted by the end of
  the batch continues in the next batch, with an empty memory;
- every trial starts with an empty memory; in that code one that starts within a batch remembers the
  last step of the one before it;
- advantages carry over from one episode of a trial to the next, and a trial that ends by the time
  limit is bootstrapped, as in `varibad`;
- the policy learns from the first batch too, which that code skips;
- the action cost is that of the clipped action, as the joints receive it; in that code that of the
  action as it was sampled;
- the reward scale is updated after an update of the policy, not at every step;
- training tasks are stratified over the training law and fresh for every batch, in that code for
  every trial.
As in that code, the policy sees no state before its first step, nor the state to which the end of
an episode resets it.

Read on in: methods/core/actor_critic.py, methods/core/trials.py, methods/core/trial_loop.py.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from methods.api import MakeEnv, Method, Spec, Streams, Trainer
from methods.core.actor_critic import PPO, Collected, Outputs, PPOConfig, outputs_of, ppo_loss
from methods.core.distributions import log_prob
from methods.core.nets import Params, init_linear, linear, spread
from methods.core.normalise import RewardScale, RunningMoments
from methods.core.policy_gradient import copies_of, sampled
from methods.core.ranges import check_ranges
from methods.core.recurrent import gru_cell, init_encoder, memories, seen
from methods.core.td3_stage import OwnStage, TD3StageAdapter, TD3StageConfig
from methods.core.trial_adapter import TrialAdapter
from methods.core.trial_loop import TrialTrainer, steps_of
from methods.core.trials import Choice, Moment, Trials, normalised_advantages, trial_advantages


@dataclass(frozen=True)
class Rl2Config(PPOConfig):
    """Settings that RL² adds to PPO's."""

    minibatches: int = 4
    memory: int = 128  # units of the GRU, R
    latent: int = 256  # units of the layer between memory and policy
    action_embedding: int = 16
    state_embedding: int = 32
    reward_embedding: int = 16
    # trials of a test task in a batch of `rl2+ft`: its gcd with the horizon is used; ours
    tuned_copies: int = field(default=4, metadata={"stage": "adapt"})

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = dict.fromkeys(
            ("memory", "latent", "action_embedding", "state_embedding", "reward_embedding"),
            (1, 8192),
        )
        check_ranges(self, {**sizes, "tuned_copies": (1, 10_000)})


def init(n_obs: int, n_act: int, config: Rl2Config, generator: torch.Generator) -> Params:
    """Return fresh weights of memory, policy and value."""
    embeddings = config.action_embedding, config.state_embedding, config.reward_embedding
    params = init_encoder(n_obs, n_act, embeddings, config.memory, generator)
    params |= init_linear("latent", (), config.memory, config.latent, generator)
    for net, n_out in (("actor", n_act), ("critic", 1)):
        params |= init_linear(f"{net}0", (), config.latent, config.hidden, generator)
        params |= init_linear(f"{net}1", (), config.hidden, n_out, generator)
    return params | {"log_std": torch.zeros(1, n_act, device=generator.device)}


def networks(params: Params) -> list[list[str]]:
    """Return weight names of memory, then of policy and value; each group is clipped on its own."""
    heads = [name for name in params if name.startswith(("actor", "critic", "log_std"))]
    return [[name for name in params if name not in heads], heads]


def outputs(params: Mapping[str, Tensor], memory: Tensor) -> Outputs:
    """Return policy and value for memories [..., B, R]; each has one hidden layer."""
    latent = linear(params, "latent", memory).relu()
    return outputs_of(
        params, lambda net: linear(params, f"{net}1", linear(params, f"{net}0", latent).tanh())
    )


class Rl2Agent:
    """Agent that acts, remembers, and learns.

    Args:
      params: weights, shared by all tasks or each with a leading task axis [N].
      rewards: reward statistics, updated by `meta_learn`.
      streams: named generators; it uses "actions" and "minibatches".
      lead: () for shared weights, (N,) for weights of each task's own.
    """

    def __init__(
        self,
        params: Params,
        rewards: RewardScale,
        config: Rl2Config,
        streams: Streams,
        lead: tuple[int, ...] = (),
    ) -> None:
        self.config, self.rewards, self.memory_size = config, rewards, config.memory
        self.ppo = PPO(params, config, streams.torch("minibatches"), lead, networks(params))
        self._lead = lead
        self._generator = streams.torch("actions")

    @property
    def device(self) -> torch.device:
        """Device of its tensors."""
        return self._generator.device

    @property
    def updates(self) -> int:
        """Optimiser steps so far, per task."""
        return self.ppo.updates

    # Acting

    def act(self, obs: Tensor, memory: Tensor) -> Choice:
        """See `core.trials.Agent.act`."""
        mean, log_std, value = outputs(self.ppo.params, memory)
        action = sampled((mean, log_std), self._generator)
        return Choice(action, log_prob(action, mean, log_std), value)

    def mean(self, obs: Tensor, memory: Tensor) -> Tensor:
        """Return the most likely actions."""
        return outputs(self.ppo.params, memory).mean

    def value(self, obs: Tensor, memory: Tensor) -> Tensor:
        """Return the value [N, E] of the rest of the trial."""
        return outputs(self.ppo.params, memory).value

    def remember(self, memory: Tensor, moment: Moment) -> Tensor:
        """See `core.trials.Agent.remember`."""
        params = self.ppo.params
        x = seen(params, moment.action, moment.reward, moment.next_obs, moment.ended)
        gates = linear(params, "gru_x", x)
        return gru_cell(params, "gru", gates, memory)

    def recall(
        self,
        moments: Moment,
        index: Tensor | None = None,
        params: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return memory [T, …, R] before each step of trials [T, N, E, …] or columns at `index`."""
        params = self.ppo.params if params is None else params
        known = (moments.action, moments.reward, moments.next_obs, moments.ended)
        x = seen(params, *(self._columns(part, index) for part in known))
        trial_ended = self._columns(moments.trial_ended, index)
        start = torch.zeros(*trial_ended.shape[1:], self.memory_size, device=self.device)
        return memories(params, "gru", x, trial_ended, start)[:-1]

    # Learning

    def learn(self, trials: Trials) -> None:
        """Run PPO through the memory, in minibatches of columns: one task's trials in sequence."""
        moments = trials.moments
        choices = trials.choices
        config = self.config
        reward = self.rewards(moments.reward)
        advantage, returns = trial_advantages(trials, reward, config.gamma, config.lam)
        advantage = normalised_advantages(advantage, alone=bool(self._lead))
        kept = Collected(moments.action, choices.log_prob, choices.value, advantage, returns)

        def loss_of(params: Params, index: Tensor) -> Tensor:
            memory = self._rows(self.recall(moments, index, params))
            samples = Collected(*(self._rows(self._columns(part, index)) for part in kept))
            return ppo_loss(outputs(params, memory), samples, config)

        columns = moments.reward.shape[2] if self._lead else moments.reward[0].numel()
        self.ppo.update(loss_of, columns)

    def meta_learn(self, trials: Trials) -> None:
        """Learn, then update the normaliser with the batch."""
        self.learn(trials)
        self.learn_statistics(trials)

    @property
    def statistics(self) -> dict[str, RunningMoments]:
        """Statistics that normalise rewards."""
        return {"rewards": self.rewards.moments}

    def learn_statistics(self, trials: Trials) -> None:
        """Update the normaliser with a batch."""
        self.rewards.learn(trials.moments.reward, trials.moments.trial_ended)

    def _columns(self, values: Tensor, index: Tensor | None) -> Tensor:
        """[T, N, E, …] → N·E columns at `index` [T, C, …], or [T, N, C, …] if tasks learn alone."""
        if index is None:
            return values
        return values[:, :, index] if self._lead else values.flatten(1, 2)[:, index]

    def _rows(self, values: Tensor) -> Tensor:
        """Flatten [T, C, …] → [T·C, …], or [T, N, C, …] → [N, T·C, …]."""
        return values.transpose(0, 1).flatten(1, 2) if self._lead else values.flatten(0, 1)

    def frozen(self) -> "Rl2Agent":
        """Return a copy that later learning does not change, for `mean` and `remember` only."""
        copy = object.__new__(Rl2Agent)
        copy.__dict__.update(self.__dict__)
        copy.ppo = deepcopy(self.ppo)
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser and generators; the statistics belong to the method."""
        return {"ppo": self.ppo.state_dict(), "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.ppo.load_state_dict(state["ppo"])
        self._generator.set_state(state["generator"])


class Rl2(Method):
    """RL² with a GRU and PPO."""

    version: ClassVar[int] = 3
    meta_trains: ClassVar[bool] = True
    on_policy: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    eval_mode: str = "deterministic"
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "learning_rate": (3e-4, 7e-4, 2e-3),
        "entropy_weight": (0.0, 0.01),
        "copies": (1, 2, 3),
        "clip": (0.05, 0.1, 0.2),
        "epochs": (2, 4),
    }
    Config: ClassVar[type[Rl2Config]] = Rl2Config
    config: Rl2Config

    def __init__(self, spec: Spec, config: Rl2Config) -> None:
        self.spec = spec
        self.config = config
        self.theta: Params = {}  # empty until meta-trained or loaded
        self.rewards = RewardScale(config.gamma)

    # Meta-training

    def least_budget(self, n_tasks: int) -> int:
        """Return the environment steps of one update: a trial in each copy of each task."""
        return steps_of(self.config, n_tasks, self.spec.horizon)

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Return a trainer that learns from trials of `n_tasks` fresh tasks, within `budget` steps.

        Raises:
          ValueError: if `budget`, summed over tasks, does not allow one update.
        """
        config, (n_obs, n_act, horizon, *_) = self.config, self.spec
        agent = Rl2Agent(
            init(n_obs, n_act, config, streams.torch("init")), self.rewards, config, streams
        )

        def keep() -> None:
            self.theta = agent.ppo.params

        return TrialTrainer(
            make_env,
            horizon,
            n_tasks,
            budget=budget,
            config=config,
            agent=agent,
            least=self.least_budget(n_tasks),
            keep=keep,
        )

    # Adaptation

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> OwnStage:
        """Return an adapter of one trial on each of `n_tasks`; only the memory changes.

        Raises:
          RuntimeError: if there is no meta-trained policy.
        """
        agent = Rl2Agent(self._trained(), self.rewards, self.config, streams)
        return TrialAdapter(make_env, self.spec.horizon, self.config.trial_episodes, agent)

    def _trained(self) -> Params:
        if not self.theta:
            raise RuntimeError(
                "RL² has no weights yet: finish a trainer or call load_state_dict before adapter"
            )
        return self.theta

    def state_dict(self) -> dict[str, Any]:
        """Return weights and reward statistics."""
        return {"theta": self.theta, "rewards": self.rewards.moments.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.theta = dict(state["theta"])
        self.rewards.moments.load_state_dict(state["rewards"])


class Rl2Finetuned(Rl2):
    """RL² whose learner goes on training on the test task."""

    trained_by: ClassVar[str] = "rl2"

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TrialAdapter:
        """Return an adapter: RL²'s own trial, then PPO on each task while budget remains.

        The normaliser is fixed.
        """
        config = self.config
        agent = Rl2Agent(
            spread(self._trained(), n_tasks), self.rewards, config, streams, (n_tasks,)
        )
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
class Rl2TD3Config(TD3StageConfig, Rl2Config):
    """Settings of `rl2+td3`."""


class Rl2TD3(Rl2):
    """RL² with TD3 on the test task afterwards."""

    trained_by: ClassVar[str] = "rl2"
    Config: ClassVar[type[Rl2Config]] = Rl2TD3Config
    config: Rl2TD3Config

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TD3StageAdapter:
        """Return an adapter: RL²'s own trial, then TD3 from its policy."""
        own = super().adapter(make_env, n_tasks, streams)
        return TD3StageAdapter(own, make_env, self.spec, self.config.td3_config(), streams)
