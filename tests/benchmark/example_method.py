"""Hill climbing over linear policies, each test task by itself: a whole method."""

from dataclasses import dataclass

import torch

from methods.api import Memoryless, Method


@dataclass(frozen=True)
class Config:
    noise: float = 0.5  # standard deviation of the change tried in an episode


def act(weights, obs):  # [N, O + 1, A], [N, E, O] -> [N, E, A]
    obs = torch.from_numpy(obs)
    return (torch.cat([obs, torch.ones_like(obs[..., :1])], -1) @ weights).clamp(-1, 1).numpy()


class HillClimbing(Method):
    """Changes a linear policy at random for an episode, and keeps it if the return was better."""

    version = 1
    meta_trains = False
    eval_mode = "deterministic"
    Config = Config

    def adapter(self, make_env, n_tasks, streams):
        start = torch.zeros(n_tasks, self.spec.observation_size + 1, self.spec.action_size)
        return Climber(make_env(), start, self.config.noise, streams.torch("changes"))


TENSORS = ("best", "tried", "best_return", "episode_return")


class Climber:
    def __init__(self, env, start, noise, generator):
        self.env = env
        self.noise = noise
        self.generator = generator
        self.updates = 0
        self.obs = env.reset()
        self.best = start
        self.tried = start.clone()
        self.best_return = torch.full((len(start),), -torch.inf)
        self.episode_return = torch.zeros(len(start))

    def step(self, limit):
        # one control step; the harness calls again, and may save and stop in between
        step = self.env.step(act(self.tried, self.obs))
        self.obs = step.obs
        ended = step.terminated | step.truncated
        self.episode_return += torch.from_numpy(step.reward[:, 0])
        if ended.any():
            self.judge(torch.from_numpy(ended[:, 0]))
            self.obs = self.env.reset(ended)

    def judge(self, ended):
        better = ended & (self.episode_return > self.best_return)
        self.best[better] = self.tried[better]
        self.best_return[better] = self.episode_return[better]
        change = torch.empty_like(self.best).normal_(0, self.noise, generator=self.generator)
        self.tried[ended] = (self.best + change)[ended]
        self.episode_return[ended] = 0.0
        self.updates += 1

    def policy(self, generator):
        best = self.best.clone()
        return Memoryless(lambda obs: act(best, obs))

    def state_dict(self):
        # all that a restart needs besides the environment: tensors, arrays and plain Python
        tensors = {name: getattr(self, name).clone() for name in TENSORS}
        others = {"updates": self.updates, "obs": self.obs}
        return tensors | others | {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])
        for name in (*TENSORS, "updates", "obs"):
            setattr(self, name, state[name])
