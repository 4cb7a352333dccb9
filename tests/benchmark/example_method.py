"""Hill climbing over linear policies, each test task by itself: a whole method."""

from dataclasses import dataclass

import torch

from methods.api import Memoryless, Method


@dataclass(frozen=True)
class Config:
    noise: float = 0.5  # std of the change that an episode tries


def act(weights, obs):  # [N, O + 1, A], [N, E, O] -> [N, E, A]
    obs = torch.from_numpy(obs)
    return (torch.cat([obs, torch.ones_like(obs[..., :1])], -1) @ weights).clamp(-1, 1).numpy()


class HillClimbing(Method):
    """Tries a random change of a linear policy for an episode, and keeps it if the return was better."""

    version, meta_trains, eval_mode, Config = 1, False, "deterministic", Config

    def adapter(self, make_env, n_tasks, streams):
        start = torch.zeros(n_tasks, self.spec.observation_size + 1, self.spec.action_size)
        return Climber(make_env(), start, self.config.noise, streams.torch("changes"))


class Climber:
    def __init__(self, env, start, noise, generator):
        self.env, self.noise, self.generator, self.updates = env, noise, generator, 0
        self.obs, self.best, self.tried = env.reset(), start, start.clone()
        self.best_return, self.episode_return = torch.full((len(start),), -torch.inf), torch.zeros(len(start))

    def step(self, limit):  # one control step; the harness calls again, and may save and stop in between
        step = self.env.step(act(self.tried, self.obs))
        self.obs, ended = step.obs, step.terminated | step.truncated
        self.episode_return += torch.from_numpy(step.reward[:, 0])
        if ended.any():
            self.judge(torch.from_numpy(ended[:, 0]))
            self.obs = self.env.reset(ended)

    def judge(self, ended):
        better = ended & (self.episode_return > self.best_return)
        self.best[better], self.best_return[better] = self.tried[better], self.episode_return[better]
        change = torch.empty_like(self.best).normal_(0, self.noise, generator=self.generator)
        self.tried[ended], self.episode_return[ended] = (self.best + change)[ended], 0.0
        self.updates += 1

    def policy(self, generator):
        best = self.best.clone()
        return Memoryless(lambda obs: act(best, obs))

    def state_dict(self):  # all that a restart needs beside the environment, as tensors, arrays and plain Python
        tensors = {name: getattr(self, name).clone() for name in ("best", "tried", "best_return", "episode_return")}
        return tensors | {"updates": self.updates, "generator": self.generator.get_state(), "obs": self.obs}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])
        for name in ("best", "tried", "best_return", "episode_return", "updates", "obs"):
            setattr(self, name, state[name])
