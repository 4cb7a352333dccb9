"""RL²: a recurrent policy that learns to learn, by RL over trials of several episodes.

The policy sees a memory of the trial: of every action, reward and state so far, across episodes. It
is trained to earn much over the whole trial, so it learns to find out which task it is on. On a
test task nothing but the memory changes.

Papers: Duan et al. 2016, "RL²: Fast Reinforcement Learning via Slow Reinforcement Learning" (arXiv
1611.02779); Wang et al. 2016, "Learning to reinforcement learn" (arXiv 1611.05763). Official code:
none of the first; settings are those of RL² in lmzintgraf/varibad, its usual stand-in, on
cheetah-vel, unless a comment says otherwise.

`rl2+ft` goes on after its own trial: PPO on the test task alone, on batches of trials there;
`rl2+td3`: TD3 instead, from its policy.

Differences from that code:
- the settings that it has for other families are not used: half a trial of each process in a batch
  on the ants, walker and cheetah-dir, ε 0.05 on the ants and walker, one minibatch on ant-goal and
  walker, and on ant-goal also a rate of 3e-4 that falls to 0, orthogonal weights of policy and
  value, and a layer of 64 units more before them;
- a batch is a trial of each of the budget's tasks (official: two of each of 16 processes);
- a minibatch is of whole trials, and its memory is computed with it; there, it is of steps drawn
  from all trials, and the memory is computed once an epoch;
- the memory's units between it and the policy are one layer, not one each for a mean and a
  log-variance;
- weights begin with torch's default scales; there, those of the GRU are orthogonal, those of a unit
  in a hidden layer of policy or value have norm 5/3, those of a mean norm 1, and the biases of all
  these are 0;
- a trial that falls end early makes room for another of the same task, and the batch's end cuts one
  off; there, the next one is of a fresh task, and one that the batch's end interrupts goes on in
  the next batch, with an empty memory;
- every trial begins with an empty memory; there, one that begins within a batch remembers the last
  step of the one before it;
- advantages go on from one episode of a trial to the next, and the trial's end by the clock is
  bootstrapped, as VariBAD's;
- the policy learns from the first batch, which that code leaves out;
- the cost of an action is that of the action as the joints get it, clipped; there, of the action as
  it was drawn;
- the reward's scale moves after an update, not with every step;
- training tasks are stratified over their law and fresh for every batch, there for every trial.
As there, the policy does not see a state before its first step, nor that to which an episode's end
resets it.

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
    """Settings of RL² beside PPO's."""

    minibatches: int = 4
    memory: int = 128  # units of the GRU, R
    latent: int = 256  # units between it and the policy
    action_embedding: int = 16
    state_embedding: int = 32
    reward_embedding: int = 16
    # trials of a test task in a batch of `rl2+ft`, fewer where they do not divide the horizon; ours
    tuned_copies: int = field(default=4, metadata={"stage": "adapt"})

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = dict.fromkeys(
            ("memory", "latent", "action_embedding", "state_embedding", "reward_embedding"),
            (1, 8192),
        )
        check_ranges(self, {**sizes, "tuned_copies": (1, 10_000)})


def init(n_obs: int, n_act: int, config: Rl2Config, generator: torch.Generator) -> Params:
    """Fresh weights of memory, policy and value."""
    embeddings = config.action_embedding, config.state_embedding, config.reward_embedding
    params = init_encoder(n_obs, n_act, embeddings, config.memory, generator)
    params |= init_linear("latent", (), config.memory, config.latent, generator)
    for net, n_out in (("actor", n_act), ("critic", 1)):
        params |= init_linear(f"{net}0", (), config.latent, config.hidden, generator)
        params |= init_linear(f"{net}1", (), config.hidden, n_out, generator)
    return params | {"log_std": torch.zeros(1, n_act, device=generator.device)}


def networks(params: Params) -> list[list[str]]:
    """Weight names of the memory, then of policy and value; each group is clipped on its own."""
    heads = [name for name in params if name.startswith(("actor", "critic", "log_std"))]
    return [[name for name in params if name not in heads], heads]


def outputs(params: Mapping[str, Tensor], memory: Tensor) -> Outputs:
    """Policy and value with memories [..., B, R]: of each a hidden layer."""
    latent = linear(params, "latent", memory).relu()
    return outputs_of(
        params, lambda net: linear(params, f"{net}1", linear(params, f"{net}0", latent).tanh())
    )


class Rl2Agent:
    """Acts, remembers, and learns.

    Args:
      params: weights, shared by all tasks or each with a leading axis [N].
      rewards: statistics; they move with `meta_learn`.
      streams: named generators; "actions" and "minibatches" are drawn from.
      lead: () or (N,).
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
        """Of its tensors."""
        return self._generator.device

    @property
    def updates(self) -> int:
        """Steps of the optimiser so far, per task."""
        return self.ppo.updates

    # Acting

    def act(self, obs: Tensor, memory: Tensor) -> Choice:
        """As `core.trials.Agent.act`."""
        mean, log_std, value = outputs(self.ppo.params, memory)
        action = sampled((mean, log_std), self._generator)
        return Choice(action, log_prob(action, mean, log_std), value)

    def mean(self, obs: Tensor, memory: Tensor) -> Tensor:
        """The most likely action."""
        return outputs(self.ppo.params, memory).mean

    def value(self, obs: Tensor, memory: Tensor) -> Tensor:
        """[N, E] of what is to come in the trial."""
        return outputs(self.ppo.params, memory).value

    def remember(self, memory: Tensor, moment: Moment) -> Tensor:
        """As `core.trials.Agent.remember`."""
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
        """Memory [T, …, R] before each step of trials [T, N, E, …], or of columns at an index."""
        params = self.ppo.params if params is None else params
        known = (moments.action, moments.reward, moments.next_obs, moments.ended)
        x = seen(params, *(self._columns(part, index) for part in known))
        trial_ended = self._columns(moments.trial_ended, index)
        start = torch.zeros(*trial_ended.shape[1:], self.memory_size, device=self.device)
        return memories(params, "gru", x, trial_ended, start)[:-1]

    # Learning

    def learn(self, trials: Trials) -> None:
        """PPO through the memory in minibatches of whole columns: one task's trials in sequence."""
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
        """Learn, then let the normaliser see the batch."""
        self.learn(trials)
        self.learn_statistics(trials)

    @property
    def statistics(self) -> dict[str, RunningMoments]:
        """What normalises rewards."""
        return {"rewards": self.rewards.moments}

    def learn_statistics(self, trials: Trials) -> None:
        """Let the normaliser see a batch."""
        self.rewards.learn(trials.moments.reward, trials.moments.trial_ended)

    def _columns(self, values: Tensor, index: Tensor | None) -> Tensor:
        """[T, N, E, …] → N·E columns at index [T, C, …], or [T, N, C, …] if tasks learn alone."""
        if index is None:
            return values
        return values[:, :, index] if self._lead else values.flatten(1, 2)[:, index]

    def _rows(self, values: Tensor) -> Tensor:
        """[T, C, …] → [T·C, …], or [T, N, C, …] → [N, T·C, …]."""
        return values.transpose(0, 1).flatten(1, 2) if self._lead else values.flatten(0, 1)

    def frozen(self) -> "Rl2Agent":
        """A copy that learning does not reach; it is asked for means only."""
        copy = object.__new__(Rl2Agent)
        copy.__dict__.update(self.__dict__)
        copy.ppo = deepcopy(self.ppo)
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and generators; the statistics are the method's."""
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
        """Environment steps of one update: a trial in each copy of each task."""
        return steps_of(self.config, n_tasks, self.spec.horizon)

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Trials of `n_tasks` fresh tasks and updates, while `budget` (steps over tasks) allows.

        Raises:
          ValueError: if they do not allow one.
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
        """One trial on each of `n_tasks`; only the memory changes.

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
        """Weights, and the statistics of rewards."""
        return {"theta": self.theta, "rewards": self.rewards.moments.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.theta = dict(state["theta"])
        self.rewards.moments.load_state_dict(state["rewards"])


class Rl2Finetuned(Rl2):
    """RL² whose learner goes on training on the test task."""

    trained_by: ClassVar[str] = "rl2"

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TrialAdapter:
        """RL²'s own trial, then PPO on each task while budget remains; the normaliser is fixed."""
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
        """RL²'s own trial, then TD3 from its policy."""
        own = super().adapter(make_env, n_tasks, streams)
        return TD3StageAdapter(own, make_env, self.spec, self.config.td3_config(), streams)
