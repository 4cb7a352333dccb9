"""VariBAD's meta-training speed on cheetah-vel at official sizes, by part and against a port.

The port is written as one would write it from the paper: modules, `nn.GRU`, an optimiser each, one
network call per part and step. It has the same environments and sizes.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from benchmark.pool import CountedEnv, TaskPool
from benchmark.seeding import Streams
from benchmark.worker import keep_memory
from envs.cheetah import CheetahVel
from methods.api import Spec
from methods.varibad import Varibad, VaribadAgent, VaribadConfig

O, A, Z, H, K, THREADS, TURNS = 17, 6, 5, 200, 2, 2, 5
CONFIG, FAMILY = VaribadConfig(), CheetahVel()


@pytest.fixture(autouse=True)
def _as_a_worker() -> None:
    keep_memory()
    torch.set_num_threads(THREADS)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.action, self.state, self.reward = nn.Linear(A, 16), nn.Linear(O, 32), nn.Linear(1, 16)
        self.gru, self.mean, self.log_var = nn.GRU(64, 128), nn.Linear(128, Z), nn.Linear(128, Z)

    def forward(
        self, action: Tensor, state: Tensor, reward: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.cat(
            [self.action(action).relu(), self.state(state).relu(), self.reward(reward).relu()], -1
        )
        out, memory = self.gru(x, memory)
        return self.mean(out), self.log_var(out), memory

    def prior(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        memory = torch.zeros(1, size, 128)
        return self.mean(memory), self.log_var(memory), memory


class Net(nn.Module):
    def __init__(self, n_out: int) -> None:
        super().__init__()
        self.state = nn.Sequential(nn.Linear(O, 64), nn.Tanh())
        self.latent = nn.Sequential(nn.Linear(2 * Z, 64), nn.Tanh())
        self.layers = nn.Sequential(
            nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, n_out)
        )

    def forward(self, state: Tensor, latent: Tensor) -> Tensor:
        return self.layers(torch.cat([self.state(state), self.latent(latent)], -1))


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic, self.log_std = Net(A), Net(1), nn.Parameter(torch.zeros(A))
        self.moments = [(torch.zeros(size), torch.ones(size)) for size in (O, 2 * Z)]

    def forward(self, state: Tensor, latent: Tensor) -> tuple[Normal, Tensor]:
        state, latent = (
            (x - m) / (v + 1e-8).sqrt()
            for x, (m, v) in zip((state, latent), self.moments, strict=True)
        )
        return Normal(self.actor(state, latent), self.log_std.exp()), self.critic(state, latent)[
            ..., 0
        ]


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Linear(O, 32)
        self.layers = nn.Sequential(
            nn.Linear(Z + 32, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, latent: Tensor, state: Tensor) -> Tensor:
        return self.layers(torch.cat([latent, self.state(state).relu()], -1))[..., 0]


class Port:
    """One iteration: a trial in each environment, PPO, and a step of the autoencoder."""

    def __init__(self, env: Any, size: int) -> None:
        self.env, self.size = env, size
        self.encoder, self.decoder, self.policy = Encoder(), Decoder(), Policy()
        self.ppo = torch.optim.Adam(self.policy.parameters(), CONFIG.learning_rate, eps=1e-8)
        self.vae = torch.optim.Adam(
            [*self.encoder.parameters(), *self.decoder.parameters()], CONFIG.vae_learning_rate
        )
        self.trials: list[tuple[Tensor, ...]] = []

    def __call__(self) -> None:
        rows, last = self.rollout()
        obs, latent, action, log_prob, value, reward, next_obs = (
            torch.stack(part) for part in zip(*rows, strict=True)
        )
        trial = action, next_obs, reward[..., None]
        self.trials += [tuple(part[:, n] for part in trial) for n in range(self.size)]
        scaled, total, gain = reward / 30.0, torch.zeros(self.size), []
        values = torch.cat([value, last[None]])
        for t in reversed(range(K * H)):
            total = (
                scaled[t]
                + CONFIG.gamma * values[t + 1]
                - values[t]
                + CONFIG.gamma * CONFIG.lam * total
            )
            gain.insert(0, total)
        advantage = torch.stack(gain)
        self.improve(
            obs,
            latent,
            action,
            log_prob,
            value,
            (advantage - advantage.mean()) / advantage.std(),
            advantage + value,
        )
        self.policy.moments = [
            (x.flatten(0, 1).mean(0), x.flatten(0, 1).var(0)) for x in (obs, latent)
        ]
        self.explain()

    @torch.no_grad()
    def rollout(self) -> tuple[list[tuple[Tensor, ...]], Tensor]:
        self.env.draw()
        obs, rows = torch.from_numpy(self.env.reset())[:, 0], []
        mean, log_var, memory = self.encoder.prior(self.size)
        for _ in range(K * H):
            latent = torch.cat([mean[0], log_var[0]], -1)
            density, value = self.policy(obs, latent)
            action = density.sample()
            step = self.env.step(action[:, None].numpy())
            reward, next_obs = torch.from_numpy(step.reward)[:, 0], torch.from_numpy(step.obs)[:, 0]
            rows.append(
                (obs, latent, action, density.log_prob(action).sum(-1), value, reward, next_obs)
            )
            mean, log_var, memory = self.encoder(
                action[None], next_obs[None], reward[None, :, None], memory
            )
            ended = step.terminated | step.truncated
            obs = torch.from_numpy(self.env.reset(ended))[:, 0] if ended.any() else next_obs
        return rows, self.policy(obs, torch.cat([mean[0], log_var[0]], -1))[1]

    def improve(self, *parts: Tensor) -> None:
        flat = [part.flatten(0, 1) for part in parts]
        for _ in range(CONFIG.epochs):
            for index in torch.randperm(len(flat[0])).chunk(CONFIG.minibatches):
                obs, latent, action, old, old_value, advantage, returns = (
                    part[index] for part in flat
                )
                density, value = self.policy(obs, latent)
                ratio = (density.log_prob(action).sum(-1) - old).exp()
                gain = torch.min(
                    ratio * advantage, ratio.clamp(1 - CONFIG.clip, 1 + CONFIG.clip) * advantage
                ).mean()
                near = old_value + (value - old_value).clamp(-CONFIG.clip, CONFIG.clip)
                errors = [
                    nn.functional.smooth_l1_loss(v, returns, reduction="none")
                    for v in (value, near)
                ]
                error = 0.5 * torch.max(*errors).mean()
                entropy = density.entropy().sum(-1).mean()
                self.ppo.zero_grad()
                (CONFIG.value_weight * error - gain - CONFIG.entropy_weight * entropy).backward()
                nn.utils.clip_grad_norm_(self.policy.parameters(), CONFIG.max_grad_norm)
                self.ppo.step()

    def explain(self) -> None:
        picked = [
            self.trials[i]
            for i in np.random.default_rng(0).integers(len(self.trials), size=CONFIG.vae_batch)
        ]
        action, state, reward = (torch.stack(part, 1) for part in zip(*picked, strict=True))
        mean, log_var, memory = self.encoder.prior(CONFIG.vae_batch)
        means, log_vars = [mean], [log_var]
        for begin in range(0, K * H, CONFIG.truncation):
            piece = slice(begin, begin + CONFIG.truncation)
            mean, log_var, memory = self.encoder(
                action[piece], state[piece], reward[piece], memory.detach()
            )
            means.append(mean)
            log_vars.append(log_var)
        mean, log_var = torch.cat(means), torch.cat(log_vars)
        zero, trial = torch.zeros(1, CONFIG.vae_batch, Z), torch.arange(CONFIG.vae_batch)
        q = Normal(mean, (0.5 * log_var).exp())
        before = [torch.cat([zero, part])[:-1] for part in (mean, log_var)]
        divergence = torch.distributions.kl_divergence(
            q, Normal(before[0], (0.5 * before[1]).exp())
        ).sum(-1)
        t = torch.randint(K * H + 1, (CONFIG.posteriors, CONFIG.vae_batch))
        i = torch.randint(K * H, (CONFIG.transitions, CONFIG.posteriors, CONFIG.vae_batch))
        z = q.rsample()[t, trial].expand(CONFIG.transitions, -1, -1, -1)
        errors = (self.decoder(z, state[i, trial]) - reward[i, trial, 0]).square().sum((0, 1))
        self.vae.zero_grad()
        (errors + CONFIG.kl_weight * divergence[t, trial].sum(0)).mean().backward()
        self.vae.step()


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def timed(call: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            spent[part] = spent.get(part, 0.0) + time.perf_counter() - start

    return run


def pool_of(tasks: int) -> TaskPool:
    draw = partial(FAMILY.sample, tasks, np.random.default_rng(0))
    return TaskPool(FAMILY, draw(), Streams(0), THREADS, pooled=True, allowed=10**9, draw=draw)


@pytest.mark.parametrize(("tasks", "guard"), [(16, 1.06), (64, 0.88)])
def test_meta_training_on_the_cheetah(
    benchmark: Any,
    judge: Callable[..., None],
    iterations: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tasks: int,
    guard: float,
) -> None:
    ours = iterations(
        Varibad(Spec(O, A, H), CONFIG), pool_of(tasks), tasks, 10**8, Streams(0, "method")
    )
    port, spent = Port(pool_of(tasks).make_env(1), tasks), dict[str, float]()
    for turn in (ours, port):
        turn()  # to warm up
    pairs = [(seconds(ours), seconds(port)) for _ in range(TURNS)]
    steps = tasks * K * H
    taken = f"{steps / median(our_time for our_time, _ in pairs):,.0f} steps/s"
    ratio = median(their_time / our_time for our_time, their_time in pairs)
    for name in ("step", "reset", "draw"):
        monkeypatch.setattr(CountedEnv, name, timed(getattr(CountedEnv, name), "simulator", spent))
    for name, part in (("_learn_policy", "PPO"), ("_learn_beliefs", "autoencoder")):
        monkeypatch.setattr(VaribadAgent, name, timed(getattr(VaribadAgent, name), part, spent))
    whole = benchmark.pedantic(lambda: seconds(ours), rounds=1)
    spent["acting and remembering"] = whole - sum(spent.values())
    benchmark.extra_info.update(
        {f"share of {part}": share / whole for part, share in spent.items()}
    )
    judge(ratio, taken, "a plain port", goal=1.0, guard=guard)
