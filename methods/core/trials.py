"""Trials: k episodes of one task in a row, across which a method remembers."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from envs.api import Env
from methods.core.border import array_of, tensor_of
from methods.core.returns import advantages, normalised


class Moment(NamedTuple):
    """What a memory may know of one control step and its outcome; [T, …] over T steps."""

    obs: Tensor  # [N, E, O]
    action: Tensor  # [N, E, A] as drawn, before clipping
    reward: Tensor  # [N, E]
    next_obs: Tensor  # [N, E, O] what the step led to, before any reset
    terminated: Tensor  # [N, E] bool
    truncated: Tensor  # [N, E] bool
    trial_ended: Tensor  # [N, E] bool: the last of the trial's episodes ended with the step

    @property
    def ended(self) -> Tensor:
        """[N, E] bool: the episode ended with the step."""
        return self.terminated | self.truncated


class Choice(NamedTuple):
    """An action, and what a learner needs to know about it later; [T, …] over T steps."""

    action: Tensor  # [N, E, A]
    log_prob: Tensor  # [N, E]
    value: Tensor  # [N, E]


class Agent(Protocol):
    """Acts on what it sees and remembers."""

    def act(self, obs: Tensor, memory: Tensor) -> Choice:
        """Draw an action at obs [N, E, O], with memory [N, E, R]."""
        ...

    def value(self, obs: Tensor, memory: Tensor) -> Tensor:
        """Value [N, E] of what is to come."""
        ...

    def remember(self, memory: Tensor, moment: Moment) -> Tensor:
        """The memory [N, E, R] after a step."""
        ...


class Trials(NamedTuple):
    """T steps of N tasks × E copies from the start of a trial; where one ends, the next follows."""

    moments: Moment  # [T, N, E, …]
    choices: Choice  # [T, N, E, …]
    memory: Tensor  # [T, N, E, R] before each step
    # [T, N, E] of the state after each step; at the end of a trial, of the state before the reset
    next_value: Tensor


class TrialRunner:
    """Steps an environment through trials.

    Args:
      env: E copies of each task, each with its own trials.
      episodes: number of episodes of a trial, k.
      device: the device of the tensors.
    """

    def __init__(self, env: Env, episodes: int, device: torch.device) -> None:
        self.env = env
        self.device = device
        self._episodes = episodes
        self.obs = torch.zeros(env.n_tasks, env.copies, env.observation_size, device=device)
        # episodes that have ended in the present trials
        self.ended = torch.zeros(env.n_tasks, env.copies, dtype=torch.int64, device=device)

    def begin(self) -> None:
        """Begin a trial in every copy."""
        self.obs = tensor_of(self.env.reset(), self.device)
        self.ended = torch.zeros_like(self.ended)

    def step(self, action: Tensor) -> Moment:
        """Take one control step; episodes that end are followed by a reset."""
        next_obs, reward, terminated, truncated = (
            tensor_of(part, self.device) for part in self.env.step(array_of(action))
        )
        over = terminated | truncated
        self.ended = self.ended + over
        trial_ended = self.ended == self._episodes
        moment = Moment(
            self.obs,
            action,
            reward,
            next_obs=next_obs,
            terminated=terminated,
            truncated=truncated,
            trial_ended=trial_ended,
        )
        self.ended = self.ended * ~trial_ended
        self.obs = (
            tensor_of(self.env.reset(array_of(over)), self.device) if over.any() else next_obs
        )
        return moment

    def state_dict(self) -> dict[str, Any]:
        """The progress of the trials; the harness keeps the environment's own state."""
        return {"obs": self.obs.clone(), "ended": self.ended.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.obs = state["obs"].clone()
        self.ended = state["ended"].clone()


MEMORY = len(Moment._fields) + len(Choice._fields)  # index of the memory in a row


class TrialBatch:
    """Collects T steps of trials that begin together, in as many calls as it takes.

    Args:
      runner: runs the trials.
      memory_size: R.
      steps: T.
    """

    def __init__(self, runner: TrialRunner, memory_size: int, steps: int) -> None:
        self._runner = runner
        self._size = memory_size
        self._steps = steps
        self.copies = runner.env.copies
        self._rows: list[list[Tensor]] = []
        self._memory = torch.zeros(0, device=runner.device)

    def collect(self, agent: Agent, steps: int | None = None) -> Trials | None:
        """Continue for `steps` steps, or to the end; None until the batch is complete."""
        left = self._steps - len(self._rows)
        with torch.no_grad():
            for _ in range(left if steps is None else min(left, steps)):
                self._step(agent)
            return self._complete(agent) if len(self._rows) == self._steps else None

    def _step(self, agent: Agent) -> None:
        runner = self._runner
        if not self._rows:
            runner.begin()
            self._memory = torch.zeros(*runner.obs.shape[:2], self._size, device=runner.device)
        memory = self._memory
        choice = agent.act(runner.obs, memory)
        moment = runner.step(choice.action)
        after = agent.remember(memory, moment)
        ended = moment.trial_ended
        # only the end of a trial needs a value here: elsewhere the next step has it
        beyond = (
            agent.value(moment.next_obs, after) if ended.any() else torch.zeros_like(choice.value)
        )
        self._memory = after * ~ended[..., None]
        self._rows.append([*moment, *choice, memory, beyond])

    def _complete(self, agent: Agent) -> Trials:
        columns = [torch.stack(column) for column in zip(*self._rows, strict=True)]
        self._rows = []
        moments = Moment(*columns[:7])
        choices = Choice(*columns[7:MEMORY])
        memory, beyond = columns[MEMORY:]
        last = agent.value(self._runner.obs, self._memory)
        following = torch.cat([choices.value[1:], last[None]])
        return Trials(moments, choices, memory, torch.where(moments.trial_ended, beyond, following))

    def known(self, episodes: int) -> Tensor:
        """`known_of` of the steps so far, [N, R]; zeros before the first step."""
        if not self._rows:
            return torch.zeros(len(self._runner.obs), self._size, device=self._runner.device)
        moments = Moment(
            *(torch.stack(column) for column in list(zip(*self._rows, strict=True))[:7])
        )
        memory = torch.stack([*(row[MEMORY] for row in self._rows), self._memory])
        return known_of(moments, memory, episodes)

    def state_dict(self) -> dict[str, Any]:
        """The part of a batch collected so far."""
        return {
            "rows": [[tensor.clone() for tensor in row] for row in self._rows],
            "memory": self._memory.clone(),
            "runner": self._runner.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._rows = [list(row) for row in state["rows"]]
        self._memory = state["memory"].clone()
        self._runner.load_state_dict(state["runner"])


def known_of(moments: Moment, memory: Tensor, episodes: int) -> Tensor:
    """The memory [N, R], in each task's first copy, after the first `episodes` episodes of the
    trial that a batch began with, or after as many of their steps as there are.

    Args:
      moments: [T, N, E, …].
      memory: [T or T + 1, N, E, R] before each step, and possibly after the last.
    """
    over = moments.ended[:, :, 0].to(torch.int64)  # [T, N]
    ended = over.cumsum(0) - over  # before each step
    first_trial = (
        moments.trial_ended[:, :, 0].to(torch.int64).cumsum(0)
        - moments.trial_ended[:, :, 0].to(torch.int64)
        == 0
    )
    steps = ((ended < episodes) & first_trial).sum(0)  # [N]
    return memory[steps, torch.arange(len(steps), device=steps.device), 0]


def trial_advantages(
    trials: Trials, reward: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns [T, N, E] in the trial, which continues across its episodes' ends.

    After a trial that ends by termination the value is 0; one that the clock ends is bootstrapped.

    Args:
      reward: [T, N, E], possibly scaled.
      gamma, lam: discount γ and mixing λ.
    """
    moments = trials.moments
    value = trials.choices.value
    ended = moments.trial_ended
    terminated, truncated = ended & moments.terminated, ended & ~moments.terminated
    advantage = advantages(
        reward,
        value,
        trials.next_value,
        terminated=terminated,
        truncated=truncated,
        gamma=gamma,
        lam=lam,
    )
    return advantage, advantage + value


def normalised_advantages(advantage: Tensor, alone: bool) -> Tensor:
    """Advantages [T, N, E] of mean 0 and deviation 1 over the batch or, if `alone`, each task."""
    by_task = advantage.transpose(0, 1)  # [N, T, E]
    return (
        normalised(by_task.reshape(len(by_task) if alone else 1, -1))
        .reshape(by_task.shape)
        .transpose(0, 1)
    )
