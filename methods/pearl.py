"""PEARL: off-policy meta-reinforcement learning with a probabilistic context variable.

A latent z summarises a task. An inference network maps each transition of a context to a Gaussian
factor of its own, and the posterior of z is their product. Soft actor-critic learns a policy
conditioned on z, and its critics' loss trains the inference network. On a test task z is drawn from
the prior for two episodes of exploration, then from the posterior given their transitions; no
weights change.

Paper: Rakelly, Zhou, Quillen, Finn and Levine 2019, "Efficient Off-Policy Meta-Reinforcement
Learning via Probabilistic Context Variables" (arXiv 1903.08254). Official code: katerakelly/oyster;
settings are those of its cheetah-vel, for every family.

After its own stage, `pearl+ft` continues to train SAC and the inference network on the test task
alone, with the experience collected there; `pearl+td3` continues with TD3 instead, starting from
its policy.

Differences from that code:
- its settings for other families are not used: 4000 gradient steps per iteration on the ants and
  where dynamics vary, contexts of 256 on the ants and cheetah-dir, batches of 4 tasks on ant-dir
  and cheetah-dir and of 10 on ant-goal and where dynamics vary, λ = 1 on ant-goal, and visits of
  2 × 1000 steps on cheetah-dir;
- training tasks are stratified over the training law, and the budget sets their number (official:
  100 drawn at random, 150 on ant-goal, 40 where dynamics vary);
- an iteration visits distinct tasks side by side, fewer where there are fewer; a visit is a number
  of steps, not of whole episodes; an iteration makes `updates_per_step` gradient steps for each
  environment step of its visits, where that code makes a fixed number (2000 for 5 × 1000 steps: the
  same ratio);
- the replay holds 200 000 transitions of each task, not a million;
- the tanh-Gaussian's density has no ε;
- a test task is explored once, and every evaluated episode draws its own z from the resulting
  posterior; in that code each evaluation explores afresh, infers z again after every episode from
  the second on until 600 steps are used, and scores the last episode. Where the two exploration
  episodes end early, exploration continues here with z from the posterior until 2·H steps are used;
- automatic entropy tuning is an option (`auto_entropy`), which neither paper nor code has;
  re-implementations use it.

In `pearl+ft` a batch comes from one task, so one divergence is weighed against that task's mean
error, where meta-training weighs the sum of 16 tasks' divergences against the mean error over all
of them; contexts are drawn from everything collected; the target value starts equal to the value.

Read on in: methods/core/sac.py, methods/core/context_adapter.py, methods/core/replay.py.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from methods.api import Event, MakeEnv, Method, Spec, Streams, Trainer
from methods.core.context_adapter import Belief, ContextAdapter, Episodes, prior
from methods.core.distributions import kl, product_of_gaussians
from methods.core.nets import Params
from methods.core.ranges import check_ranges
from methods.core.replay import Batch, TaskReplay
from methods.core.sac import (
    SACConfig,
    critic_loss,
    init_mlp,
    network,
    policy_loss,
    q_target,
    tanh_gaussian,
    temperature_loss,
    value_loss,
)
from methods.core.td3_stage import OwnStage, TD3StageAdapter, TD3StageConfig

ENCODER_LAYERS = 3  # hidden layers of the inference network
HEAD = 3e-3  # bound of the last layers' initial weights
POLICY_HEAD = 1e-3  # the same for the policy


@dataclass(frozen=True)
class PearlConfig(SACConfig):
    """Settings that PEARL adds to SAC's."""

    # inference
    latent: int = 5  # Z
    encoder_hidden: int = 200
    kl_weight: float = 0.1  # λ
    context: int = 100  # transitions per task from which a gradient step infers z
    # iterations
    meta_batch: int = 16  # tasks per gradient step
    visited: int = 5  # tasks that an iteration visits; fewer where there are fewer
    initial_steps: int = 2000  # per task, before the first gradient step
    prior_steps: int = 400  # per visited task, with z from the prior: its new context
    # per visited task after that, with z from the posterior except in the first episode
    posterior_steps: int = 600
    updates_per_step: float = 0.4  # gradient steps per environment step of the visits
    # transitions kept per task; official 1e6, fewer here to bound the memory of a hundred tasks
    replay: int = 200_000
    # gradient steps per environment step and task of `pearl+ft`; ours
    tuned_updates_per_step: float = field(default=0.4, metadata={"stage": "adapt"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, PEARL_RANGES)
        if self.replay < (
            least := max(self.initial_steps, self.prior_steps + self.posterior_steps)
        ):
            raise ValueError(
                f"replay must be at least {least}, the number of steps that a task collects at"
                f" once, not {self.replay}"
            )


PEARL_RANGES: dict[str, tuple[float, float]] = {
    "latent": (1, 8192),
    "encoder_hidden": (1, 8192),
    "kl_weight": (0.0, 1e3),
    "context": (1, 65_536),
    "meta_batch": (1, 10_000),
    "visited": (1, 10_000),
    "initial_steps": (1, 10_000_000),
    "prior_steps": (1, 10_000_000),
    "posterior_steps": (0, 10_000_000),
    "updates_per_step": (0.0, 100.0),
    "replay": (1, 100_000_000),
    "tuned_updates_per_step": (0.0, 100.0),
}


# Networks: q(z|c), π(a|s, z), Q₁, Q₂(s, a, z), V(s, z)


def init(spec: Spec, config: PearlConfig, generator: torch.Generator) -> Params:
    """Return fresh weights of all networks; the target value V̄ starts as a copy of V."""
    n_obs = spec.observation_size
    n_act = spec.action_size
    z = config.latent
    hidden = config.hidden
    layers = config.layers
    tuple_size = n_obs + n_act + 1 + (n_obs if spec.kind == "transition" else 0)
    params = init_mlp(
        "context",
        tuple_size,
        config.encoder_hidden,
        layers=ENCODER_LAYERS,
        n_out=2 * z,
        last=HEAD,
        generator=generator,
    )
    params |= init_mlp(
        "pi",
        n_obs + z,
        hidden,
        layers=layers,
        n_out=2 * n_act,
        last=POLICY_HEAD,
        generator=generator,
    )
    params |= init_mlp(
        "q",
        n_obs + n_act + z,
        hidden,
        layers=layers,
        n_out=1,
        last=HEAD,
        generator=generator,
        lead=(2,),
    )
    params |= init_mlp(
        "v", n_obs + z, hidden, layers=layers, n_out=1, last=HEAD, generator=generator
    )
    return params | {"log_alpha": torch.zeros((), device=generator.device)}


def witnesses(seen: Batch, next_obs: bool) -> Tensor:
    """Return inference-network inputs [N, C, F] for transitions [N, C, …]: (s, a, r[, s'])."""
    parts = [seen.obs, seen.action, seen.reward[..., None], *([seen.next_obs] if next_obs else [])]
    return torch.cat(parts, -1)


def infer(params: Mapping[str, Tensor], context: Tensor, precision: str) -> Belief:
    """q(z|c) ∝ Π_n N(z; f_μ(c_n), softplus f_σ(c_n)), for a context [..., C, F] in any order.

    Source:
      Rakelly et al. 2019, section 4.1.
    """
    mean, raw = network(params, "context", ENCODER_LAYERS, context, precision).chunk(2, -1)
    return Belief(*product_of_gaussians(mean, softplus(raw)))


def bottleneck(belief: Belief) -> Tensor:
    """Return KL(q(z|c) ‖ N(0, I)): [...] for beliefs [..., Z]."""
    zero = torch.zeros_like(belief.mean)
    return kl(belief.mean, 0.5 * belief.var.log(), zero, zero)


class PearlAgent:
    """Agent that acts on z, infers z, and learns.

    Args:
      params: weights, shared by all tasks or with a task axis [N], which follows the axis of the
        twin critics.
      streams: named generators; it uses "actions" and "latents".
      lead: () for shared weights, (N,) for weights of each task's own.
    """

    def __init__(
        self,
        params: Params,
        spec: Spec,
        config: PearlConfig,
        streams: Streams,
        lead: tuple[int, ...] = (),
    ) -> None:
        self.config = config
        self._spec = spec
        self._lead = lead
        self.updates = 0
        self.params = {name: tensor.detach().clone() for name, tensor in params.items()}
        self.target = {name: tensor.clone() for name, tensor in self._of("v").items()}
        self._generator = streams.torch("actions")
        self._latents = streams.torch("latents")
        self._adams = [
            torch.optim.Adam(list(self._of(*nets).values()), config.learning_rate, fused=True)
            for nets in (("context", "q"), ("pi", "v", "log_alpha"))
        ]

    def _of(self, *nets: str) -> Params:
        return {name: tensor for name, tensor in self.params.items() if name.startswith(nets)}

    # Acting

    def act(self, obs: Tensor, z: Tensor) -> Tensor:
        """Return sampled actions [N, E, A] at obs [N, E, O] with z [N, E, Z]."""
        shape = *obs.shape[:2], self._spec.action_size
        noise = torch.randn(shape, generator=self._generator, device=obs.device)
        return tanh_gaussian(self._policy(self.params, obs, z), noise).action

    def mean(self, obs: Tensor, z: Tensor) -> Tensor:
        """Return the actions without noise, tanh μ."""
        return self._policy(self.params, obs, z).chunk(2, -1)[0].tanh()

    def believe(self, seen: Batch) -> Belief:
        """See `core.context_adapter.ContextAgent.believe`."""
        return infer(
            self.params, witnesses(seen, self._spec.kind == "transition"), self.config.precision
        )

    # Learning

    def learn(self, batch: Batch, context: Batch) -> None:
        """Make a gradient step on transitions [N, B, …], with z inferred from others [N, C, …].

        The critics' loss is averaged over all transitions of the step; the divergences of the
        posteriors are summed over its tasks.

        Source:
          Rakelly et al. 2019, algorithm 1.
        """
        config, (n_tasks, size) = self.config, batch.reward.shape
        noise = self._noise(n_tasks, config.latent)
        obs, action, reward, next_obs, terminated = (self._rows(part) for part in batch)
        log_alpha = self.params["log_alpha"]
        alpha = log_alpha.exp() if config.auto_entropy else torch.ones_like(log_alpha)

        # critics, whose loss also trains the inference network
        taught = self._leaves("context", "q")
        belief = infer(
            taught, witnesses(context, self._spec.kind == "transition"), config.precision
        )
        z = self._rows(belief.draw(noise)[:, None].expand(-1, size, -1))
        told = z.detach()
        with torch.no_grad():
            next_value = self._value(self.target, next_obs, told)
        target = q_target(reward, terminated, next_value, config.gamma, config.reward_scale)
        loss = critic_loss(self._critics(taught, obs, action, z), target).sum()
        self._step(0, loss + config.kl_weight * bottleneck(belief).sum(), taught)

        # value and policy
        taught = self._leaves("pi", "v", *(["log_alpha"] if config.auto_entropy else []))
        noise = self._noise(*action.shape)
        drawn = tanh_gaussian(self._policy(taught, obs, told), noise)
        q = self._critics(self.params, obs, drawn.action, told)
        loss = value_loss(self._value(taught, obs, told), q, drawn.log_prob, alpha)
        loss = loss + policy_loss(drawn, q, alpha, config.regularisation)
        if config.auto_entropy:
            loss = loss + temperature_loss(
                taught["log_alpha"], drawn.log_prob, -float(action.shape[-1])
            )
        self._step(1, loss.sum(), taught)
        torch._foreach_lerp_(list(self.target.values()), list(self._of("v").values()), config.tau)
        self.updates += 1

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._latents, device=self._latents.device)

    def _critics(
        self, params: Mapping[str, Tensor], obs: Tensor, action: Tensor, z: Tensor
    ) -> Tensor:
        """Return Q₁ and Q₂: [2, ..., B]."""
        return self._network(params, "q", obs, action, z).squeeze(-1)

    def _value(self, params: Mapping[str, Tensor], obs: Tensor, z: Tensor) -> Tensor:
        return self._network(params, "v", obs, z).squeeze(-1)

    def _policy(self, params: Mapping[str, Tensor], obs: Tensor, z: Tensor) -> Tensor:
        """Return μ and log σ: [..., B, 2·A]."""
        return self._network(params, "pi", obs, z)

    def _network(self, params: Mapping[str, Tensor], net: str, *seen: Tensor) -> Tensor:
        return network(params, net, self.config.layers, torch.cat(seen, -1), self.config.precision)

    def _rows(self, values: Tensor) -> Tensor:
        """Flatten [N, B, …] → [N·B, …], unless each task learns alone."""
        return values if self._lead else values.flatten(0, 1)

    def _leaves(self, *nets: str) -> Params:
        return {name: tensor.detach().requires_grad_() for name, tensor in self._of(*nets).items()}

    def _step(self, which: int, loss: Tensor, leaves: Params) -> None:
        gradient = torch.autograd.grad(loss, list(leaves.values()))
        for name, g in zip(leaves, gradient, strict=True):
            self.params[name].grad = g
        self._adams[which].step()

    def frozen(self) -> "PearlAgent":
        """Return a copy that later learning does not change; only its `mean` may be called."""
        copy = object.__new__(PearlAgent)
        copy.__dict__.update(self.__dict__)
        copy.params = {name: tensor.clone() for name, tensor in self._of("pi").items()}
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimisers and generators."""
        return {
            "params": {name: tensor.clone() for name, tensor in self.params.items()},
            "target": {name: tensor.clone() for name, tensor in self.target.items()},
            "adams": [deepcopy(adam.state_dict()) for adam in self._adams],
            "generators": [generator.get_state() for generator in (self._generator, self._latents)],
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, into an agent of the same sizes."""
        for mine, saved in ((self.params, state["params"]), (self.target, state["target"])):
            for name, tensor in mine.items():
                tensor.copy_(saved[name])
        for adam, saved in zip(self._adams, state["adams"], strict=True):
            adam.load_state_dict(saved)
        for generator, saved in zip(
            (self._generator, self._latents), state["generators"], strict=True
        ):
            generator.set_state(saved)
        self.updates = state["updates"]


class PearlTrainer:
    """Meta-training in iterations: visits to a few tasks, with z from the prior and then from the
    posterior, followed by gradient steps on all tasks.

    Args:
      budget: environment steps, summed over `n_tasks`.
      keep: called with the weights at the end.
    """

    def __init__(
        self,
        make_env: MakeEnv,
        n_tasks: int,
        budget: int,
        agent: PearlAgent,
        spec: Spec,
        config: PearlConfig,
        streams: Streams,
        keep: Callable[[Params], None],
    ) -> None:
        self._make_env = make_env
        self._n_tasks = n_tasks
        self._agent = agent
        self._config = config
        self._keep = keep
        per_visit = config.prior_steps + config.posterior_steps
        self._cost = min(config.visited, n_tasks) * per_visit  # environment steps per iteration
        iterations = (budget - n_tasks * config.initial_steps) // self._cost
        most = config.initial_steps + iterations * per_visit  # environment steps of one task
        self._visits, self._batches, self._latents = map(
            streams.torch, ("visits", "batches", "visited-latents")
        )
        self._device = device = self._batches.device
        sizes = spec.observation_size, spec.action_size
        self._replay = TaskReplay(n_tasks, min(config.replay, most), *sizes, device)
        # first all tasks explore with z from the prior, a horizon at a time; then visits with z
        # from the prior, visits with z from the posterior, and learning alternate
        self._exploration = Episodes(make_env(), config.latent, inf, self._latents)
        self._explored = 0
        self._iteration = 0
        self._next = "explore"
        self._visited = torch.zeros(0, dtype=torch.int64, device=device)

    @property
    def updates(self) -> int:
        """Gradient steps so far."""
        return self._agent.updates

    def step(self, limit: int) -> Event:
        """Visit some tasks at once, or make one gradient step."""
        config = self._config
        if self._next == "explore":
            return self._explore()
        if self._next == "visit":
            if limit < self._cost:
                self._keep(self._agent.params)
                return Event.END
            self._iteration += 1
            order = torch.randperm(self._n_tasks, generator=self._visits, device=self._device)
            self._visited = order[: config.visited]
            self._collect(self._visited, config.prior_steps, on_prior=True)
            self._next = "revisit"
            return Event.EXPLORED
        if self._next == "revisit":
            if config.posterior_steps:
                self._collect(self._visited, config.posterior_steps, on_prior=False)
            self._next = "learn"
        else:
            self._learn()
        if self.updates < int(self._iteration * self._cost * config.updates_per_step):
            return Event.NOTHING
        self._next = "visit"
        return Event.ITERATION

    def _explore(self) -> Event:
        env = self._exploration.env
        ids = torch.arange(self._n_tasks, device=self._device)
        steps = min(env.horizon, self._config.initial_steps - self._explored)
        seen = self._exploration.collect(
            steps, self._agent.act, lambda: prior(self._n_tasks, self._config.latent, self._device)
        )
        self._replay.add(ids, seen, context=self._explored == 0, more=self._explored > 0)
        self._explored += steps
        if self._explored < self._config.initial_steps:
            return Event.NOTHING
        self._next = "visit"
        return Event.EXPLORED

    def _collect(self, ids: Tensor, steps: int, on_prior: bool) -> None:
        def believe() -> Belief:
            return self._agent.believe(
                self._replay.sample_context(ids, self._config.context, self._batches)
            )

        env = self._make_env(1, tuple(ids.tolist()))
        episodes = Episodes(env, self._config.latent, inf if on_prior else 1, self._latents)
        self._replay.add(ids, episodes.collect(steps, self._agent.act, believe), context=on_prior)

    def _learn(self) -> None:
        config = self._config
        shape = (config.meta_batch,)
        ids = torch.randint(self._n_tasks, shape, generator=self._batches, device=self._device)
        batch = self._replay.sample(ids, config.batch, self._batches)
        self._agent.learn(batch, self._replay.sample_context(ids, config.context, self._batches))

    def state_dict(self) -> dict[str, Any]:
        """Return agent, experience, position within the iteration, and generators."""
        return {
            "agent": self._agent.state_dict(),
            "replay": self._replay.state_dict(),
            "exploration": self._exploration.state_dict(),
            "explored": self._explored,
            "generators": [
                generator.get_state() for generator in (self._visits, self._batches, self._latents)
            ],
            "iteration": self._iteration,
            "next": self._next,
            "visited": self._visited.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._agent.load_state_dict(state["agent"])
        self._replay.load_state_dict(state["replay"])
        self._exploration.load_state_dict(state["exploration"])
        self._explored = state["explored"]
        for generator, saved in zip(
            (self._visits, self._batches, self._latents), state["generators"], strict=True
        ):
            generator.set_state(saved)
        self._iteration = state["iteration"]
        self._next = state["next"]
        self._visited = state["visited"].clone()


class Pearl(Method):
    """PEARL with SAC."""

    version: ClassVar[int] = 1
    meta_trains: ClassVar[bool] = True
    many_tasks: ClassVar[bool] = True
    eval_mode: str = "deterministic"
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "learning_rate": (3e-4, 1e-3, 2e-3),
        "kl_weight": (0.1, 1.0),
        "auto_entropy": (False, True),
        "tau": (0.005, 0.02),
        "reward_scale": (1.0, 5.0),
    }
    Config: ClassVar[type[PearlConfig]] = PearlConfig
    config: PearlConfig

    def __init__(self, spec: Spec, config: PearlConfig) -> None:
        self.spec = spec
        self.config = config
        self.params: Params = {}  # empty until meta-trained or loaded

    # Meta-training

    def least_budget(self, n_tasks: int) -> int:
        """Return the environment steps of initial exploration and one iteration, over all tasks."""
        return n_tasks * self.config.initial_steps + self._per_iteration(n_tasks)

    def _per_iteration(self, n_tasks: int) -> int:
        config = self.config
        return min(config.visited, n_tasks) * (config.prior_steps + config.posterior_steps)

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Return a trainer that visits a few of `n_tasks` tasks and makes gradient steps on all, in
        as many iterations as `budget` steps, summed over tasks, allow.

        Raises:
          ValueError: if they do not allow one iteration.
        """
        if budget < (least := self.least_budget(n_tasks)):
            raise ValueError(
                f"{self.config.initial_steps} steps of each of {n_tasks} tasks and one iteration"
                f" take {least} environment steps and the budget is {budget}; take fewer tasks or"
                " shorter visits"
            )
        agent = PearlAgent(
            init(self.spec, self.config, streams.torch("init")), self.spec, self.config, streams
        )
        return PearlTrainer(
            make_env,
            n_tasks,
            budget,
            agent=agent,
            spec=self.spec,
            config=self.config,
            streams=streams,
            keep=self._keep,
        )

    def _keep(self, params: Params) -> None:
        self.params = params

    # Adaptation

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> OwnStage:
        """Return an adapter of two episodes on each of `n_tasks`; only the belief about z changes.

        Raises:
          RuntimeError: if there are no meta-trained weights.
        """
        agent = PearlAgent(self._trained(), self.spec, self.config, streams)
        return ContextAdapter(
            make_env(), agent, self.config.latent, (streams.torch("z"), streams.torch("replay"))
        )

    def _trained(self) -> Params:
        if not self.params:
            raise RuntimeError(
                "PEARL has no weights yet: finish a trainer or call load_state_dict before adapter"
            )
        return self.params

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of all networks."""
        return {"params": self.params}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.params = dict(state["params"])


class PearlFinetuned(Pearl):
    """PEARL that goes on training on the test task."""

    trained_by: ClassVar[str] = "pearl"

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> ContextAdapter:
        """Return an adapter: PEARL's own two episodes, then each task goes on and learns alone."""
        config = self.config
        # a copy of the weights for each task, on an axis after that of the twin critics
        axis = {name: 1 if name.startswith("q") else 0 for name in self._trained()}
        own = {name: tensor.unsqueeze(axis[name]) for name, tensor in self.params.items()}
        own = {name: torch.cat([tensor] * n_tasks, axis[name]) for name, tensor in own.items()}
        return ContextAdapter(
            make_env(),
            PearlAgent(own, self.spec, config, streams, (n_tasks,)),
            config.latent,
            (streams.torch("z"), streams.torch("replay")),
            learning=True,
            updates_per_step=config.tuned_updates_per_step,
            batch=config.batch,
            context=config.context,
            replay=config.replay,
        )


@dataclass(frozen=True)
class PearlTD3Config(TD3StageConfig, PearlConfig):
    """Settings of `pearl+td3`."""


class PearlTD3(Pearl):
    """PEARL with TD3 on the test task afterwards."""

    trained_by: ClassVar[str] = "pearl"
    Config: ClassVar[type[PearlConfig]] = PearlTD3Config
    config: PearlTD3Config

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TD3StageAdapter:
        """Return an adapter: PEARL's own two episodes, then TD3 from its policy."""
        own = super().adapter(make_env, n_tasks, streams)
        return TD3StageAdapter(own, make_env, self.spec, self.config.td3_config(), streams)
