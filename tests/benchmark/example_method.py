"""Hill climbing over linear policies: a whole method, as an example of the contract in `methods.api`."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Config:
    noise: float = 0.5  # std of the change that an episode tries


class LinearPolicy:
    def __init__(self, weights):
        self.weights = weights  # [N, O + 1, A]

    def act(self, obs):  # [N, E, O] -> [N, E, A]
        obs = torch.from_numpy(obs)
        return (torch.cat([obs, torch.ones_like(obs[..., :1])], -1) @ self.weights).clamp(-1, 1).numpy()

    def reset(self, mask): ...  # it remembers nothing of an episode

    def observe(self, step): ...


class Climber:
    """A search per test task, side by side; an episode that a checkpoint interrupts goes on after it."""

    TENSORS = ("obs", "best", "tried", "best_return", "total")

    def __init__(self, env, noise, generator):
        self.env, self.noise, self.generator, self.updates = env, noise, generator, 0
        self.obs = torch.from_numpy(env.reset())
        self.best = torch.zeros(env.n_tasks, env.observation_size + 1, env.action_size)
        self.tried, self.best_return = self.best.clone(), torch.full((env.n_tasks,), -torch.inf)
        self.total = torch.zeros(env.n_tasks)  # reward of the episode so far

    def step(self, limit):
        for _ in range(limit):  # one environment step of every task
            step = self.env.step(LinearPolicy(self.tried).act(self.obs.numpy()))
            self.total += torch.from_numpy(step.reward[:, 0])
            ended = step.terminated | step.truncated
            self.obs = torch.from_numpy(self.env.reset(ended) if ended.any() else step.obs)
            if ended.any():
                self.judge(torch.from_numpy(ended[:, 0]))

    def judge(self, ended):
        better = ended & (self.total > self.best_return)
        self.best[better], self.best_return[better] = self.tried[better], self.total[better]
        change = torch.empty_like(self.best).normal_(0, self.noise, generator=self.generator)
        self.tried[ended], self.total[ended] = (self.best + change)[ended], 0.0
        self.updates += 1

    def policy(self, generator):
        return LinearPolicy(self.best.clone())

    def state_dict(self):
        state = {name: getattr(self, name).clone() for name in self.TENSORS}
        return state | {"updates": self.updates, "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        for name in self.TENSORS:
            getattr(self, name).copy_(state[name])
        self.updates = state["updates"]
        self.generator.set_state(state["generator"])


class HillClimbing:
    """Tries random changes of a linear policy and keeps the best."""

    version, meta_trains, eval_mode, Config = 1, False, "deterministic", Config

    def __init__(self, spec, config):
        self.config = config

    def meta_train(self, make_env, n_tasks, budget, streams):
        yield from ()  # it learns on the test task alone

    def adapter(self, make_env, n_tasks, streams):
        return Climber(make_env(), self.config.noise, streams.torch("search"))

    def state_dict(self):
        return {}

    def load_state_dict(self, state): ...
