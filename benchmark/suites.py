"""Suites and budgets, as data.

A suite asks one question; its version is bumped whenever a change alters what its numbers mean. A
budget says how much experience answering the question may cost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envs import FIDELITY


@dataclass(frozen=True)
class Variant:
    """A change to a suite's methods whose effect it asks about; the first is usually no change."""

    # these override the budget's; a method that lacks one of them does not have this variant
    settings: Mapping[str, Any] = field(default_factory=dict)
    # number of training tasks of an off-policy meta-training in place of the budget's (0: keep it);
    # the tasks of a smaller number are among those of a larger one
    tasks: int = 0
    # with `tasks`: whether all together have the budget's steps; otherwise each has as many as at
    # the budget's number of tasks
    same_total: bool = False
    # share of the training law, nearest its middle, that training tasks come from
    law: float = 1.0


@dataclass(frozen=True)
class Suite:
    """One question, and what is run to answer it."""

    id: str
    version: int
    question: str
    splits: tuple[str, ...]  # test splits; each family runs on those it has
    families: Mapping[str, tuple[str, ...]]  # by budget; at any other they must be named
    methods: tuple[str, ...]  # the arms that run by default, in the order of the report
    variants: tuple[Variant, ...] = (Variant(),)  # each runs for every method that has it
    probe: str = ""  # what else is measured at each checkpoint of adaptation, module:Class


@dataclass(frozen=True)
class Budget:
    """How much experience each stage may use; steps are environment control steps."""

    id: str
    purpose: str
    train_tasks: int  # training tasks that an off-policy meta-training samples
    train_steps: int  # off-policy meta-training, summed over its tasks
    adapt_steps: int  # adaptation, per test task
    seeds: int  # training seeds by default
    # seeds that a published table needs; 0 for a budget that is not for publishing
    published_seeds: int = 0
    # training tasks of an off-policy meta-training that visits a few of many at a time; it has
    # `train_steps` in all, too
    many_tasks: int = 0
    fresh_tasks: int = 0  # training tasks that an on-policy meta-training draws at a time
    fresh_steps: int = 0  # on-policy meta-training, summed over all tasks it draws
    # by module: steps in place of `train_steps` or `fresh_steps` for the methods in it
    meta_steps: Mapping[str, int] = field(default_factory=dict)
    # by module:Class of a Config class: settings that override its defaults and those of its
    # subclasses; an entry for a subclass has the last word
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


FAST = ("point-goal", "point-rand")
FASTEST = ("point-goal",)  # where a suite has many arms
DESK = ("cheetah-vel", "cheetah-joints", "hopper-rand", "walker-rand")
ANTS = ("ant-goal", "ant-dir")  # after desk's steps, TD3 itself is still below standing still
GAPS = ("cheetah-vel-gap", "ant-dir-4", "ant-goal-gap", "hopper-mass", "walker-mass")
COVERAGE = (5, 15, 30)  # numbers of training tasks
LAWS = (0.5, 1.0)  # shares of the law
WIDTHS = (64, 128, 256)  # of the backbone
COMPARED = (
    "apb",
    *("maml", "maml+ft", "cavia", "cavia+ft", "pearl", "pearl+ft", "varibad", "varibad+ft"),
    *("td3", "finetune", "random", "zero"),
)


def _families(
    desk: tuple[str, ...], paper: tuple[str, ...] = (), fast: tuple[str, ...] = FAST
) -> dict[str, tuple[str, ...]]:
    return {"smoke": fast, "quick": fast, "desk": desk, "paper": paper or desk}


SUITES: dict[str, Suite] = {
    suite.id: suite
    for suite in (
        Suite(
            id="ood",
            version=1,
            question="Who adapts to tasks outside the training distribution?",
            splits=("ood",),
            families=_families(DESK, (*DESK, *ANTS)),
            methods=COMPARED,
        ),
        Suite(
            id="id",
            version=1,
            question="Who adapts to tasks inside the training distribution?",
            splits=("id",),
            families=_families((*DESK, "cheetah-dir"), (*DESK, *ANTS, "cheetah-dir")),
            methods=COMPARED,
        ),
        Suite(
            id="gap",
            version=1,
            question="Who adapts to tasks in a gap of the training distribution?",
            splits=("gap",),
            families=_families(GAPS, fast=FASTEST),
            methods=COMPARED,
        ),
        Suite(
            id="sanity",
            version=1,
            question="Does the meta-trained backbone matter?",
            splits=("ood",),
            families=_families(("cheetah-vel",)),
            methods=("apb", "apb-random", "td3"),
        ),
        Suite(
            id="placement",
            version=1,
            question="Are both linear layers needed, and must the backbone be frozen?",
            splits=("ood",),
            families=_families(("cheetah-vel",), ("ant-goal", "cheetah-vel")),
            methods=("apb", "apb-pre", "apb-post", "apb-none", "apb-unfrozen", "zero"),
        ),
        Suite(
            id="coverage",
            version=1,
            question="Does the error fall with the number of training tasks?",
            splits=("ood",),
            families=_families(("hopper-rand",), fast=FASTEST),
            methods=("apb",),
            variants=tuple(
                Variant(tasks=n, same_total=total) for total in (False, True) for n in COVERAGE
            ),
        ),
        Suite(
            id="architecture",
            version=1,
            question="How deep and how wide must the backbone be?",
            splits=("ood",),
            families=_families(("cheetah-vel", "hopper-rand"), fast=FASTEST),
            methods=("apb",),
            variants=tuple(
                Variant({"depth": depth, "hidden": width})
                for depth in (1, 2, 3)
                for width in WIDTHS
            ),
        ),
        Suite(
            id="efficiency",
            version=1,
            question="How many steps does adaptation take, compared with standard RL?",
            splits=("id", "ood"),
            families=_families(DESK, (*DESK, *ANTS)),
            methods=("apb", "apb-random", "td3"),
        ),
        Suite(
            id="shift",
            version=1,
            question="How far from the training distribution does each method adapt?",
            splits=("shift",),
            families=_families(("cheetah-vel", "ant-goal", "hopper-rand"), fast=FASTEST),
            methods=COMPARED,
        ),
        Suite(
            id="exploration",
            version=1,
            question="Does it help to explore with perturbed linear layers, or to reset them?",
            splits=("ood",),
            families=_families(("cheetah-vel",), ("cheetah-vel", "ant-goal")),
            methods=(
                *("apb", "apb-evolve", "apb-reset", "apb-random", "apb-evolve-random"),
                *("td3", "td3-evolve"),
            ),
        ),
        Suite(
            id="generalisation",
            version=1,
            question="Does learning only linear layers make adapted policies generalise?",
            splits=("id",),
            families=_families(("cheetah-vel", "hopper-rand")),
            methods=("td3", "finetune", "apb", "apb-random", "apb-unfrozen"),
            probe="benchmark.generalisation:Generalisation",
        ),
        Suite(
            id="theory",
            version=1,
            question="Is the bound on the adaptation error informative?",
            splits=("id", "ood"),
            families=_families(
                ("cheetah-joints", "permuted-cheetah-vel", "permuted-point-goal"),
                fast=("permuted-point-goal", "point-rand"),
            ),
            methods=("apb", "apb-random"),
            probe="benchmark.theory:Theory",
        ),
        Suite(
            id="diversity",
            version=1,
            question="Do linear layers become the bottleneck as training tasks differ more?",
            splits=("id", "ood"),
            families=_families(("cheetah-vel",), fast=FASTEST),
            methods=("apb", "apb-unfrozen"),
            variants=tuple(
                Variant(tasks=n, same_total=True, law=law) for law in LAWS for n in COVERAGE
            ),
        ),
        Suite(
            id="pixels",
            version=1,
            question="Does APB adapt from images, seen through a frozen encoder?",
            splits=("ood",),
            families=dict.fromkeys(("smoke", "quick", "desk", "paper"), ("pixels-point-goal",)),
            methods=("apb", "apb-random", "td3"),
        ),
        Suite(
            id="oracle",
            version=1,
            question="What is attainable? TD3 on each task alone, for as long as the budget allows",
            splits=("id", "gap", "ood"),
            families={
                "oracle-fast": FAST,
                **dict.fromkeys(("oracle-desk", "oracle"), (*DESK, *ANTS, *GAPS, *FIDELITY)),
            },
            methods=("td3", "random", "zero"),
        ),
    )
}

# Config classes, by name so that this file imports no learner
TD3 = "methods.core.td3:TD3Config"
APB = "methods.apb:ApbConfig"
APB_RESET = "methods.apb:ApbResetConfig"
FINETUNE = "methods.finetune:FinetuneConfig"
MAML = "methods.maml:MamlConfig"
CAVIA = "methods.cavia:CaviaConfig"
GRADIENT = "methods.core.gradient_steps:GradientConfig"
PEARL = "methods.pearl:PearlConfig"
PPO = "methods.core.actor_critic:PPOConfig"
VARIBAD = "methods.varibad:VaribadConfig"
RL2 = "methods.rl2:Rl2Config"
TD3_STAGE = "methods.core.td3_stage:TD3StageConfig"

# Short horizons and few steps call for a short-sighted, quick learner. What smoke and quick share
# was chosen by hand on point-goal, and the tries included its test tasks at radius 2; on top of
# that, quick has what its tuning found.
_QUICK_TD3 = {"gamma": 0.9, "tau": 0.02, "learning_rate": 2e-3, "exploration_noise": 0.3}
_SMOKE_TD3 = {**_QUICK_TD3, "hidden": 16, "batch": 16}
_TUNED_TD3 = {**_QUICK_TD3, "hidden": 64, "batch": 64, "tau": 5e-3}
# The same holds for PPO, tried on the training law: a trial has 100 steps there instead of 400,
# and updates are few.
_QUICK_PPO = {"gamma": 0.95, "learning_rate": 2e-3, "minibatches": 3, "copies": 2}
# And for PEARL, which was tried on the training law too.
_QUICK_PEARL = {
    "gamma": 0.9,
    "tau": 0.02,
    "learning_rate": 2e-3,
    "hidden": 64,
    "layers": 2,
    "encoder_hidden": 64,
    "batch": 32,
    "context": 32,
    "meta_batch": 8,
    "initial_steps": 250,
    "prior_steps": 100,
    "posterior_steps": 150,
}
# And for VariBAD: its minibatches consist of steps, not of whole columns, and its autoencoder
# learns from few batches, too.
_QUICK_VARIBAD = {
    "minibatches": 8,
    "precollect": 1_600,
    "state_decoder": 64,
    "vae_updates": 2,
    "posteriors": 20,
    "transitions": 20,
    "kl_weight": 0.1,
    "dynamics_kl_weight": 0.1,
}

# Widths between quick's and paper's. The precision stays fp32, since a processor without bfloat16
# instructions takes 30 times as long to emulate them.
_DESK_TD3 = {
    "hidden": 128,
    "batch": 128,
    "compile": True,
    "depth": 2,
    "learning_rate": 2e-3,
    "tau": 0.02,
}

# The values of a reproduction on the cheetah (dlpbc/nm-metarl); the official defaults, 2 and 1, are
# for 2D navigation.
_LOCOMOTION_CAVIA = {"context": 50, "inner_rate": 10.0}

# The official widths, batch and rate.
_PAPER_TD3 = {"hidden": 256, "batch": 256, "learning_rate": 3e-4, "compile": True}


def _afterwards(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return TD3's settings under their names in `TD3StageConfig`."""
    return {f"td3_{name}": value for name, value in settings.items()}


BUDGETS: dict[str, Budget] = {
    budget.id: budget
    for budget in (
        Budget(
            id="smoke",
            purpose="does it run? each cell takes seconds",
            train_tasks=4,
            train_steps=4 * 200,
            adapt_steps=200,
            seeds=1,
            many_tasks=4,
            fresh_tasks=4,
            fresh_steps=4_000,
            # no warm-up: the default of five episodes would leave no update to try
            settings={
                TD3: {**_SMOKE_TD3, "warmup_episodes": 0},
                TD3_STAGE: _afterwards({**_SMOKE_TD3, "warmup_episodes": 1}),
                GRADIENT: {"hidden": 16, "episodes": 2},
                PEARL: {
                    "hidden": 16,
                    "encoder_hidden": 16,
                    "batch": 16,
                    "context": 16,
                    "meta_batch": 4,
                    "initial_steps": 50,
                    "prior_steps": 50,
                    "posterior_steps": 100,
                    "updates_per_step": 0.1,
                    "tuned_updates_per_step": 0.1,
                },
                PPO: {"hidden": 16},
                VARIBAD: {
                    "embedding": 8,
                    "memory": 16,
                    "reward_decoder": 16,
                    "state_decoder": 16,
                    "precollect": 800,
                    "posteriors": 8,
                    "transitions": 8,
                },
                RL2: {"memory": 16, "latent": 16},
            },
        ),
        Budget(
            id="quick",
            purpose="visible learning, in minutes on two cores",
            train_tasks=8,
            train_steps=8 * 2_500,
            adapt_steps=3_000,
            seeds=2,
            published_seeds=10,
            many_tasks=8,
            fresh_tasks=8,
            fresh_steps=320_000,
            # apart from widths, what differs from smoke was chosen on point-goal's tuning law:
            # results/tuning/quick_point-goal_*.csv
            settings={
                TD3: _TUNED_TD3,
                TD3_STAGE: _afterwards(_TUNED_TD3),
                APB: {"tau": 0.02, "depth": 3, "linear_rate": 3.0},
                APB_RESET: {"reset_period": 1_000},
                FINETUNE: {"tau": 0.02, "depth": 2, "exploration_noise": 0.2},
                GRADIENT: {"hidden": 64, "episodes": 10},
                MAML: {"gamma": 0.95},
                CAVIA: {"max_kl": 0.02},
                PEARL: {**_QUICK_PEARL, "learning_rate": 3e-4, "tau": 5e-3},
                PPO: {**_QUICK_PPO, "hidden": 64},
                VARIBAD: {**_QUICK_VARIBAD, "embedding": 32, "memory": 64},
                RL2: {"memory": 64, "latent": 64, "clip": 0.05, "epochs": 4},
            },
        ),
        Budget(
            id="desk",
            purpose="published tables; one family takes a night or two on two cores",
            train_tasks=16,
            train_steps=16 * 50_000,
            adapt_steps=100_000,
            seeds=5,
            published_seeds=5,
            many_tasks=100,
            fresh_tasks=20,
            fresh_steps=10_000_000,
            meta_steps={
                "methods.maml": 18_000_000,
                "methods.cavia": 17_000_000,
                "methods.pearl": 450_000,
                "methods.varibad": 8_000_000,
                "methods.rl2": 5_000_000,
            },
            # what differs from quick, paper and the official settings was chosen on cheetah-vel's
            # tuning law: results/tuning/desk_cheetah-vel_*.csv
            settings={
                TD3: _DESK_TD3,
                TD3_STAGE: _afterwards(_DESK_TD3),
                APB: {
                    "depth": 1,
                    "learning_rate": 1e-3,
                    "tau": 0.02,
                    "linear_rate": 3.0,
                    "exploration_noise": 0.3,
                },
                # the last 40 % of the steps belong to one policy
                APB_RESET: {"reset_period": 30_000},
                GRADIENT: {"hidden": 128, "episodes": 10, "fisher_stride": 7},
                MAML: {"max_kl": 0.02},
                CAVIA: _LOCOMOTION_CAVIA,
                # widths and batch as for the others; per environment step, a quarter of the
                # official gradient steps on cheetah-vel, a half on cheetah-dir, an eighth on ants,
                # hopper and walker
                PEARL: {
                    "hidden": 128,
                    "layers": 2,
                    "encoder_hidden": 128,
                    "batch": 128,
                    "meta_batch": 8,
                    "updates_per_step": 0.1,
                    "initial_steps": 500,
                    "learning_rate": 2e-3,
                    "kl_weight": 1.0,
                    "tau": 0.02,
                },
                VARIBAD: {"copies": 1, "learning_rate": 2e-3},
            },
        ),
        Budget(
            id="paper",
            purpose="full length, for a cluster",
            train_tasks=16,
            train_steps=16 * 1_000_000,
            adapt_steps=300_000,
            seeds=10,
            published_seeds=10,
            many_tasks=100,
            fresh_tasks=20,
            fresh_steps=100_000_000,
            settings={
                # the reset period is ours
                TD3: _PAPER_TD3,
                TD3_STAGE: _afterwards(_PAPER_TD3),
                APB_RESET: {"reset_period": 100_000},
                CAVIA: _LOCOMOTION_CAVIA,
                PEARL: {"updates_per_step": 0.0625},  # about the official million gradient steps
            },
        ),
        Budget(
            id="oracle-fast",
            purpose="upper references for the point families; half an hour on two cores",
            train_tasks=0,
            train_steps=0,
            adapt_steps=20_000,
            seeds=2,
            settings={TD3: {**_QUICK_TD3, "learning_rate": 1e-3, "hidden": 64, "batch": 64}},
        ),
        Budget(
            id="oracle-desk",
            purpose="upper references for other families; a night on two cores for each",
            train_tasks=0,
            train_steps=0,
            adapt_steps=300_000,
            seeds=2,
            settings={TD3: _DESK_TD3},
        ),
        Budget(
            id="oracle",
            purpose="upper references for all other families, for a cluster",
            train_tasks=0,
            train_steps=0,
            adapt_steps=1_000_000,
            seeds=3,
            settings={TD3: _PAPER_TD3},
        ),
    )
}

DEFAULT_BUDGET = "quick"
