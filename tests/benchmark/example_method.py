"""Hill climbing over linear policies: a whole method, as an example of the contract in `methods.api`."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Config:
    noise: float = 0.5  # std of the change that is tried in each episode


class LinearPolicy:
    def __init__(self, weights):
        self.weights = weights  # [N, O + 1, A]

    def act(self, obs):  # [N, E, O] -> [N, E, A]
        obs = torch.from_numpy(obs)
        return (torch.cat([obs, torch.ones_like(obs[..., :1])], -1) @ self.weights).clamp(-1, 1).numpy()

    def reset(self, mask): ...  # no memory of an episode

    def observe(self, step): ...


class Climber:
    """One search per test task; all tasks step together, and an episode that a checkpoint cuts goes on after it."""

    updates = 0

    def __init__(self, env, noise, generator):
        self.env, self.noise, self.generator, self.obs = env, noise, generator, None
        self.best = torch.zeros(env.n_tasks, env.observation_size + 1, env.action_size)
        self.tried, self.best_return = self.best.clone(), torch.full((env.n_tasks,), -torch.inf)
        self.total = torch.zeros(env.n_tasks)  # reward of the running episode

    def step(self, limit):
        for _ in range(limit):  # one environment step of every task each
            obs = self.env.reset() if self.obs is None else self.obs
            step = self.env.step(LinearPolicy(self.tried).act(obs))
            self.total += torch.from_numpy(step.reward[:, 0])
            ended = step.terminated | step.truncated
            self.obs = self.env.reset(ended) if ended.any() else step.obs
            self.judge(torch.from_numpy(ended[:, 0]))

    def judge(self, ended):
        better = ended & (self.total > self.best_return)
        self.best[better], self.best_return[better] = self.tried[better], self.total[better]
        if ended.any():
            change = torch.empty_like(self.best).normal_(0.0, self.noise, generator=self.generator)
            self.tried[ended], self.total[ended] = (self.best + change)[ended], 0.0
            self.updates += 1

    def policy(self, generator):
        return LinearPolicy(self.best.clone())

    def state_dict(self):
        names = ("obs", "best", "tried", "best_return", "total", "updates")
        state = {name: getattr(self, name) for name in names}
        return state | {"obs": None if self.obs is None else torch.from_numpy(self.obs), "generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])
        for name in ("best", "tried", "best_return", "total", "updates"):
            setattr(self, name, state[name])
        self.obs = None if state["obs"] is None else state["obs"].numpy()


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
        return {}  # nothing was meta-trained

    def load_state_dict(self, state): ...
