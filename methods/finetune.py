"""Fine-tuning: one actor trained on many tasks at once without knowing which one it is on, then
trained further on the test task.

Meta-training trains one actor π(s), with the layers of APB's, for all tasks, and twin critics for
each task; it aims at the best policy that does not know the task. On a test task all weights of a
copy of that actor are trained, with fresh critics. Compared with this, APB adds task-specific
layers and a frozen backbone; compared with TD3 from scratch, this changes the starting point and
the use of the warm-up.

Paper: none; multi-task pre-training and fine-tuning is the usual control in meta-reinforcement
learning (Finn, Abbeel and Levine 2017, arXiv 1703.03400, compare with it). There is no official
code. Losses are TD3's (arXiv 1802.09477).

Choices, all ours:
- the actor itself collects the warm-up of a test task, with its acting noise. Critics learn from
  the first step, the actor only after the warm-up, because fresh critics would ruin it. The critics
  therefore make one warm-up's worth of updates more than those of methods that start from scratch;
  the actor makes as many as theirs;
- network sizes are those of the other TD3-type methods, and settings have the same defaults;
- nothing is reset, as in `td3`.

`context-td3` is the same with an actor and critics that are given the task's parameters, so failing
to infer the task cannot limit it. It serves to split the losses of other methods into parts, and is
a reference, not a competitor.

Read on in: methods/core/adapt.py, methods/core/td3.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

from torch import Tensor

from methods.api import MakeEnv, Method, Spec, Streams, Trainer
from methods.core.adapt import TD3Adapter, TD3Loop, TD3Trainer
from methods.core.nets import LAYERS, Params, actor, init_actor, init_critics, spread
from methods.core.td3 import TD3, TD3Config


@dataclass(frozen=True)
class FinetuneConfig(TD3Config):
    """TD3's settings, as a class of its own so that budgets can set them separately."""


class Finetune(Method):
    """Multi-task TD3 with one actor for all tasks, fine-tuned on each test task."""

    version: ClassVar[int] = 1
    meta_trains: ClassVar[bool] = True
    eval_mode: str = "deterministic"
    space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "learning_rate": (3e-4, 1e-3, 2e-3),
        "depth": (1, 2),
        "exploration_noise": (0.1, 0.2, 0.3),
        "tau": (0.005, 0.02),
    }
    Config: TypeAlias = FinetuneConfig
    config: FinetuneConfig

    def __init__(self, spec: Spec, config: FinetuneConfig) -> None:
        self.spec = spec
        self.config = config
        self.pi: Params = {}  # the shared actor; empty until meta-trained or loaded

    # Meta-training: one actor for all tasks, critics for each task

    def trainer(self, make_env: MakeEnv, n_tasks: int, budget: int, streams: Streams) -> Trainer:
        """Return a trainer that runs TD3 on `n_tasks` tasks at once, one update per step."""
        env = make_env()
        generator = streams.torch("init")
        config = self.config
        n_obs, n_act, *_ = self.spec
        pi = init_actor(
            n_obs,
            n_act,
            config.hidden,
            depth=config.depth,
            lead=dict.fromkeys(LAYERS, ()),
            generator=generator,
        )
        omega = init_critics(n_tasks, n_obs + n_act, config.hidden, generator)
        return TD3Trainer(
            TD3Loop(env, TD3(self._actor(), pi, {}, omega, config), config, streams), self._keep
        )

    def _keep(self, pi: Params) -> None:
        self.pi = pi

    # Adaptation: a copy of the actor for each task with all weights trained, and fresh critics

    def adapter(self, make_env: MakeEnv, n_tasks: int, streams: Streams) -> TD3Adapter:
        """Return an adapter that trains the actor further on each of `n_tasks`, with fresh critics.

        Raises:
          RuntimeError: if there is no meta-trained actor.
        """
        if not self.pi:
            raise RuntimeError(
                "there is no actor to fine-tune yet: finish a trainer or call load_state_dict"
                " before adapter"
            )
        config, (n_obs, n_act, *_) = self.config, self.spec
        omega = init_critics(n_tasks, n_obs + n_act, config.hidden, streams.torch("init"))
        learner = TD3(self._actor(), spread(self.pi, n_tasks), {}, omega, config)
        return TD3Adapter(make_env(), learner, config, streams, trained_actor=True)

    def _actor(self) -> partial[Tensor]:
        return partial(actor, depth=self.config.depth)

    def state_dict(self) -> dict[str, Any]:
        """Return the actor, the only result of meta-training that test tasks use."""
        return {"pi": self.pi}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.pi = dict(state["pi"])


class ContextTd3(Finetune):
    """Multi-task TD3 that is told the parameters of every task, in training and at test."""

    told: ClassVar[bool] = True
