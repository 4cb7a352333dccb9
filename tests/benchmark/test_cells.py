"""A stage's identity: changed by everything that affects a score, and by nothing else."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import benchmark.cells
from benchmark import run
from benchmark.arguments import choose_settings
from benchmark.cells import expand, resolve_config
from benchmark.local import stages_of
from benchmark.plugins import PluginError, load_method
from benchmark.pool import TaskPool
from benchmark.run import streams_of
from benchmark.seeding import Streams
from benchmark.suites import BUDGETS, GRADIENT, PPO, RL2, SUITES, TD3, VARIBAD
from envs.point import PointGoal
from methods import METHODS
from methods.apb import Apb, ApbReset, ApbUnfrozen
from methods.td3 import Td3

OOD, SMOKE = SUITES["ood"], BUDGETS["smoke"]


def cell_of(method="apb", suite=OOD, budget=SMOKE, family="point-goal", settings=None):
    return expand(
        suite,
        budget,
        {method: METHODS[method]},
        families=[family],
        seeds=1,
        settings={method: settings or {}},
    )[0]


def ids(cell):
    return cell.train_key, cell.adapt_key


CELL = cell_of()
NEITHER, ADAPT, BOTH = (False, False), (False, True), (True, True)


class TestIdentity:
    @pytest.mark.parametrize(
        ("change", "moved"),
        [
            ({"budget": "quick"}, NEITHER),  # the budget's numbers count, not its name
            ({"variant": "hidden=16"}, NEITHER),
            ({"test_tasks": 9}, NEITHER),
            ({"suite": "id"}, ADAPT),
            ({"suite_version": 2}, ADAPT),
            ({"split": "id"}, ADAPT),
            ({"split_checksum": "0"}, ADAPT),
            ({"adapt_steps": 201}, ADAPT),
            ({"family": "point-rand"}, BOTH),
            ({"family_version": "2+0"}, BOTH),
            ({"method": "other", "trained_by": "other"}, BOTH),
            ({"method": "other"}, ADAPT),  # it adapts what apb meta-trains
            ({"trained_by": "apb-pre"}, BOTH),
            ({"method_path": "other:Apb"}, BOTH),
            ({"method_version": 99}, BOTH),
            ({"method_source": "edited"}, BOTH),  # the code of a plug-in
            ({"config": {**CELL.config, "hidden": 17}}, BOTH),
            ({"seed": 1}, BOTH),
            ({"train_tasks": 5}, BOTH),
            ({"train_steps": 801}, BOTH),
        ],
        ids=str,
    )
    def test_what_a_change_moves(self, change, moved):
        changed = replace(CELL, **change)
        assert (
            tuple(one != other for one, other in zip(ids(CELL), ids(changed), strict=True)) == moved
        )

    def test_a_new_protocol_moves_adaptation(self, monkeypatch):
        before = ids(CELL)
        monkeypatch.setattr(benchmark.cells, "PROTOCOL_VERSION", 99)
        moved = replace(CELL)  # a copy, since a cell keeps its keys once computed
        assert moved.train_key == before[0]
        assert moved.adapt_key != before[1]

    def test_versions_and_tasks_are_looked_up(self, monkeypatch):
        monkeypatch.setattr(Apb, "version", 7)
        monkeypatch.setattr(PointGoal, "version", 8)
        found = cell_of()
        assert (found.method_version, found.family_version.split("+")[0]) == (7, "8")
        assert ids(found) != ids(CELL)
        tasks = PointGoal().split("ood")
        monkeypatch.setattr(PointGoal, "split", lambda self, name: tasks[:-1])
        assert cell_of().split_checksum != CELL.split_checksum
        shifted = (replace(tasks[0], params={**tasks[0].params, "radius": 1.1}), *tasks[1:])
        monkeypatch.setattr(PointGoal, "split", lambda self, name: shifted)
        assert cell_of().split_checksum != CELL.split_checksum

    @pytest.mark.parametrize(
        "change",
        [{"shift": 0.25}, {"shift_axis": "angle"}, {"params": {"radius": 1.1, "angle": 0}}],
    )
    def test_a_split_is_known_by_all_of_its_tasks(self, monkeypatch, change):
        tasks = PointGoal().split("ood")
        moved = (*tasks[:-1], replace(tasks[-1], **change))
        monkeypatch.setattr(PointGoal, "split", lambda self, name: moved)
        assert cell_of().split_checksum != CELL.split_checksum
        assert cell_of().train_key == CELL.train_key

    @pytest.mark.parametrize("change", ["method_version", "method_source", "method_path"])
    def test_what_adapts_the_training_of_another_is_known_by_its_own_code_too(self, change):
        cell = cell_of("maml+ft")
        changed = replace(cell, **{change: 99 if change == "method_version" else "other"})
        assert changed.train_key == cell.train_key
        assert changed.adapt_key != cell.adapt_key

    def test_every_stage_draws_from_generators_of_its_own(self):
        cells = [CELL, replace(CELL, split="id"), replace(CELL, family="point-rand")]
        cells.append(replace(CELL, seed=1))
        drawn = [streams_of(cell, "adapt").integer("any") for cell in cells]
        drawn += [streams_of(cell, "train").integer("any") for cell in (CELL, *cells[2:])]
        assert len({*drawn}) == len(drawn) == 7
        # the train stage, which all splits share, draws the same
        assert streams_of(cells[1], "train").integer("any") == drawn[4]

    def test_a_method_without_meta_training_has_no_train_stage(self):
        cell = cell_of("td3")
        assert cell.train_key is None
        assert (cell.train_tasks, cell.train_steps) == (0, 0)
        # so settings that only meta-training uses cannot change its key
        assert (
            cell_of("td3", budget=replace(SMOKE, train_steps=1, train_tasks=1)).adapt_key
            == cell.adapt_key
        )

    @pytest.mark.parametrize("name", ["maml", "cavia", "cavia+ft"])
    def test_an_on_policy_method_has_a_meta_training_of_its_own(self, name):
        budget = replace(SMOKE, fresh_tasks=3, fresh_steps=1234)
        cell = cell_of(name, budget=budget)
        assert (cell.train_tasks, cell.train_steps) == (3, 1234)
        assert (cell_of(budget=budget).train_tasks, cell_of(budget=budget).train_steps) == (
            CELL.train_tasks,
            CELL.train_steps,
        )

    def test_a_budget_may_give_a_method_steps_of_its_own(self):
        budget = replace(
            SMOKE, meta_steps={"methods.maml": 1600, "methods.apb": 900, "methods.td3": 1}
        )
        names = ("maml", "maml+ft", "cavia", "apb-pre", "finetune", "td3")
        steps = [cell_of(name, budget=budget).train_steps for name in names]
        assert steps == [1600, 1600, SMOKE.fresh_steps, 900, SMOKE.train_steps, 0]

    @pytest.mark.parametrize("name", ["maml-5", "cavia-5"])
    def test_five_steps_are_those_of_the_same_training(self, name):
        assert cell_of(name).train_key == cell_of(name.removesuffix("-5")).train_key
        assert cell_of(name).adapt_key != cell_of(name.removesuffix("-5")).adapt_key
        assert cell_of(name).build().config.own_steps == 5

    def test_a_method_that_visits_a_few_of_many_tasks_has_more_of_them(self):
        budget = replace(SMOKE, many_tasks=7)
        pearl, apb = cell_of("pearl", budget=budget), cell_of("apb", budget=budget)
        assert (pearl.train_tasks, pearl.train_steps) == (7, budget.train_steps)
        assert (apb.train_tasks, apb.train_steps) == (budget.train_tasks, budget.train_steps)

    @pytest.mark.parametrize(
        ("family", "tasks"), [("cheetah-joints", 10), ("ant-dir-4", 4), ("cheetah-dir", 2)]
    )
    def test_but_no_more_than_the_law_has(self, family, tasks):
        budget = replace(SMOKE, many_tasks=100)
        suite = OOD if family == "cheetah-joints" else SUITES["oracle"]
        pearl = cell_of("pearl", budget=budget, family=family, suite=suite)
        assert (pearl.train_tasks, pearl.train_steps) == (tasks, budget.train_steps)
        assert cell_of("pearl", budget=budget, family="cheetah-vel").train_tasks == 100

    @pytest.mark.parametrize(
        ("family", "kind"), [("point-goal", "reward"), ("point-rand", "transition")]
    )
    def test_a_method_is_told_what_varies(self, family, kind):
        assert cell_of("pearl", family=family).build().spec.kind == kind

    @pytest.mark.parametrize("name", ["maml", "cavia"])
    def test_fine_tuning_shares_the_meta_training_but_not_the_score(self, name):
        own, tuned = ids(cell_of(name)), ids(cell_of(f"{name}+ft"))
        assert own[0] == tuned[0] and own[1] != tuned[1]

    def test_it_survives_pickling_and_another_order_of_settings(self):
        assert ids(pickle.loads(pickle.dumps(CELL))) == ids(CELL)
        assert ids(replace(CELL, config=dict(reversed(CELL.config.items())))) == ids(CELL)


class TestExpansion:
    def test_every_method_family_and_seed_once(self):
        chosen = {name: METHODS[name] for name in ("apb", "td3")}
        cells = expand(
            OOD, SMOKE, chosen, families=["point-goal", "point-rand"], seeds=2, settings={}
        )
        assert [(c.family, c.seed, c.method) for c in cells] == [
            (family, seed, method)
            for family in ("point-goal", "point-rand")
            for seed in (0, 1)
            for method in ("apb", "td3")
        ]
        assert len({c.adapt_key for c in cells}) == 8

    def test_suites_share_a_train_stage(self):
        id_suite = replace(OOD, id="id", splits=("id",))
        cells = [
            cell_of(),
            cell_of(suite=id_suite),
            cell_of(budget=replace(SMOKE, id="longer", adapt_steps=400)),
        ]
        stages = stages_of(cells)
        assert [stage.name for stage in stages] == ["train", "adapt", "adapt", "adapt"]
        assert len({cell.train_key for cell in cells}) == 1

    def test_a_method_that_is_trained_by_another_shares_its_train_stage_and_nothing_else(self):
        cells = [cell_of(), cell_of("apb-unfrozen"), cell_of("apb-pre")]
        stages = stages_of(cells)
        assert [(stage.name, stage.cell.method) for stage in stages] == [
            ("train", "apb"),
            ("adapt", "apb"),
            ("adapt", "apb-unfrozen"),
            ("train", "apb-pre"),
            ("adapt", "apb-pre"),
        ]
        assert len({cell.adapt_key for cell in cells}) == 3
        assert cell_of("apb-reset").train_key == cells[0].train_key  # despite one more setting
        assert cell_of("apb-reset").trainer.build().config == cells[0].build().config
        longer = cell_of("apb-unfrozen", settings={"hidden": 17})
        assert longer.train_key == cell_of(settings={"hidden": 17}).train_key != cells[0].train_key

    def test_a_trainer_that_is_unknown_or_has_other_settings_is_refused(self, monkeypatch):
        refusals = {
            "nobody": "not a registered method that meta-trains",
            "td3": "not a registered method",
            "finetune": "whose Config",
        }
        for trainer, reason in refusals.items():
            monkeypatch.setattr(ApbUnfrozen, "trained_by", trainer)
            with pytest.raises(PluginError, match=f"trained by '{trainer}', .*{reason}"):
                cell_of("apb-unfrozen")

    def test_a_family_is_asked_about_those_splits_of_the_suite_that_it_has(self):
        def splits(suite, family):
            return [
                cell.split
                for cell in expand(
                    suite, SMOKE, {"zero": METHODS["zero"]}, families=[family], seeds=1, settings={}
                )
            ]

        assert splits(SUITES["oracle"], "point-goal") == ["id", "gap", "ood"]
        assert splits(SUITES["oracle"], "point-rand") == ["id", "ood"]
        assert splits(SUITES["gap"], "cheetah-vel-gap") == ["gap"]

    def test_training_comes_before_what_builds_on_it(self):
        stages = stages_of(
            expand(OOD, SMOKE, METHODS, families=["point-goal"], seeds=3, settings={})
        )
        for i, stage in enumerate(stages):
            if stage.name == "adapt" and stage.cell.train_key:
                assert stage.cell.train_key in [earlier.key for earlier in stages[:i]]

    def test_a_plan_names_its_slot_and_keys(self):
        plan = CELL.plan()
        slot = {
            "budget": "smoke",
            "family": "point-goal",
            "split": "ood",
            "method": "apb",
            "variant": "",
            "seed": 0,
        }
        assert plan["slot"] == slot
        assert plan["key"] == vars(CELL.adapt_key)
        assert plan["train_key"] == vars(CELL.train_key)
        assert (
            plan["isomorphic_axes"] == ["angle"]
            and cell_of(family="cheetah-vel").plan()["isomorphic_axes"] == []
        )


class TestSettings:
    @pytest.mark.parametrize("name", ["apb", "apb-random", "td3"])
    def test_default_then_budget_then_command_line(self, name):
        default = cell_of(name, budget=replace(SMOKE, settings={})).config
        usual = cell_of(name).config
        chosen = cell_of(name, settings={"hidden": 32}).config
        assert (default["hidden"], usual["hidden"], chosen["hidden"]) == (256, 16, 32)
        assert {key for key in default if default[key] != usual[key]} == set(
            SMOKE.settings[TD3]
        ) - {"policy_noise"}
        assert {key for key in chosen if chosen[key] != usual[key]} == {"hidden"}

    @pytest.mark.parametrize("name", ["maml", "cavia+ft"])
    def test_a_budget_scales_gradient_based_methods_apart(self, name):
        default = cell_of(name, budget=replace(SMOKE, settings={})).config
        usual = cell_of(name).config
        assert {key: usual[key] for key in default if default[key] != usual[key]} == SMOKE.settings[
            GRADIENT
        ]

    @pytest.mark.parametrize("name", ["varibad", "varibad+ft", "rl2", "rl2+ft"])
    @pytest.mark.parametrize("budget", ["smoke", "quick"])
    def test_a_budget_scales_one_method_with_a_memory_apart_from_the_others(self, name, budget):
        budget = BUDGETS[budget]
        own = budget.settings[VARIBAD if "varibad" in name else RL2]
        default = cell_of(name, budget=replace(budget, settings={})).config
        usual = cell_of(name, budget=budget).config
        expected = {
            key: value
            for key, value in {**budget.settings[PPO], **own}.items()
            if default[key] != value
        }
        assert {key: usual[key] for key in default if default[key] != usual[key]} == expected
        assert own.keys() <= default.keys()

    @pytest.mark.parametrize("name", ["random", "zero"])
    def test_a_budget_scales_only_methods_of_its_kind(self, name):
        assert cell_of(name).config == {}

    def test_settings_of_every_class_that_a_config_inherits_count_the_nearest_last(self):
        own = {
            TD3: {"hidden": 32, "tau": 0.5},
            "methods.apb:ApbConfig": {"tau": 0.25, "head_scale": 0.5},
        }
        budget = replace(SMOKE, settings=own)
        settings = {
            name: cell_of(name, budget=budget).config for name in ("td3", "apb", "apb-reset")
        }
        assert {name: (config["hidden"], config["tau"]) for name, config in settings.items()} == {
            "td3": (32, 0.5),
            "apb": (32, 0.25),
            "apb-reset": (32, 0.25),
        }
        assert settings["apb-reset"]["head_scale"] == 0.5

    def test_a_budget_that_names_no_setting_of_its_class_is_an_error(self):
        with pytest.raises(TypeError, match="hiden"):
            cell_of("td3", budget=replace(SMOKE, settings={TD3: {"hiden": 32}}))

    @pytest.mark.parametrize("budget", BUDGETS)
    def test_every_class_that_a_budget_names_is_a_config_of_a_method(self, budget):
        configs = [kind for path in METHODS.values() for kind in load_method(path).Config.__mro__]
        assert BUDGETS[budget].settings.keys() <= {
            f"{kind.__module__}:{kind.__qualname__}" for kind in configs
        }

    def test_a_variant_is_what_moved(self):
        cell = cell_of(settings={"tau": 0.5, "hidden": 32, "batch": SMOKE.settings[TD3]["batch"]})
        assert cell.variant == "hidden=32 tau=0.5"
        assert ids(cell) != ids(CELL)
        same = cell_of(settings={"hidden": 16})  # the budget's own value
        assert (same.variant, *ids(same)) == ("", *ids(CELL))

    def test_command_line_values_have_the_types_of_the_config(self):
        texts = [
            "apb.hidden=1_2",
            "apb.tau=1e-3",
            "apb.activate_first=FALSE",
            "apb.precision=bf16",
            "td3.compile=true",
        ]
        found = choose_settings(texts, METHODS, SMOKE)
        assert found == {
            "apb": {"hidden": 12, "tau": 1e-3, "activate_first": False, "precision": "bf16"},
            "td3": {"compile": True},
        }
        assert {type(value) for value in found["apb"].values()} == {int, float, bool, str}

    @pytest.mark.parametrize("budget", BUDGETS)
    def test_td3_and_apb_have_the_same_settings_but_for_those_that_were_tuned(self, budget):
        td3, apb = (resolve_config(method, BUDGETS[budget], {}) for method in (Td3, Apb))
        tuned = Td3.space.keys() if budget in ("quick", "desk") else set()
        assert {key for key in td3 if apb[key] != td3[key]} <= tuned

    @pytest.mark.parametrize("budget", ["quick", "desk", "paper"])
    def test_the_variant_with_resets_has_some(self, budget):
        period = resolve_config(ApbReset, BUDGETS[budget], {})["reset_period"]
        assert 2 * period <= BUDGETS[budget].adapt_steps

    def test_td3_and_apb_have_the_same_widths(self):
        """The actor and critics of a test task have the same layers in both methods."""
        shapes = []
        for name in ("td3", "apb-random"):
            cell, pool = cell_of(name), TaskPool(PointGoal(), PointGoal().split("ood"), Streams(0))
            learner = cell.build().adapter(pool.make_env, 8, Streams(0)).loop.learner
            layers = {**learner.pi, **learner.frozen, **learner.omega}
            shapes.append({key: tuple(layer.shape[-2:]) for key, layer in layers.items()})
        assert shapes[0] == shapes[1]
        assert {"rho_h.w", "psi0.w", "rho_t.w", "q0.w"} <= shapes[0].keys()


class TestVariants:
    """A suite's variants of a method differ only in what they are meant to vary."""

    def cells(self, suite, **methods):
        names = methods or {"apb": METHODS["apb"], "zero": METHODS["zero"]}
        return expand(SUITES[suite], SMOKE, names, families=["point-goal"], seeds=1, settings={})

    def test_coverage_has_more_tasks_with_the_same_steps_each_or_in_all(self):
        cells = [cell for cell in self.cells("coverage") if cell.method == "apb"]
        found = {(cell.variant, cell.train_tasks, cell.train_steps) for cell in cells}
        each = SMOKE.train_steps // SMOKE.train_tasks
        assert found == {
            *((f"tasks={n}", n, n * each) for n in (5, 15, 30)),
            *((f"tasks={n} steps=same", n, SMOKE.train_steps) for n in (5, 15, 30)),
        }
        assert len({cell.train_id for cell in cells}) == 6
        assert all(cell.config == cells[0].config for cell in cells)

    def test_fewer_training_tasks_are_among_the_more(self):
        drawn = {
            cell.train_tasks: [task.params for task in run.Training(cell, cell.build())._tasks]
            for cell in self.cells("coverage")
            if cell.method == "apb" and "same" not in cell.variant
        }
        assert drawn[15] == drawn[30][:15] and drawn[5] == drawn[15][:5]

    def test_what_a_suite_measures_besides_belongs_to_it_alone(self):
        ids = {
            suite: [cell.adapt_key.id for cell in self.cells(suite) if cell.split == "id"]
            for suite in ("id", "generalisation", "theory")
        }
        assert len({name for found in ids.values() for name in found}) == 6
        trained = {cell.train_id for suite in ids for cell in self.cells(suite)}
        assert len(trained) == 2  # that of apb, and that of zero, which has no train stage

    def test_diversity_has_as_many_tasks_from_less_of_the_law(self):
        cells = [cell for cell in self.cells("diversity") if cell.split == "id"]
        cells = [cell for cell in cells if cell.method == "apb"]
        assert {(cell.train_tasks, cell.law) for cell in cells} == {
            (n, law) for n in (5, 15, 30) for law in (0.5, 1.0)
        }
        assert {cell.train_steps for cell in cells} == {SMOKE.train_steps}
        assert len({cell.train_id for cell in cells}) == 6
        assert {cell.variant for cell in cells if cell.train_tasks == 5} == {
            "tasks=5 steps=same law=0.5",
            "tasks=5 steps=same",
        }
        angles = {
            (cell.train_tasks, cell.law): [
                task.params["angle"] for task in run.Training(cell, cell.build())._tasks
            ]
            for cell in cells
        }
        for n in (5, 15, 30):
            assert len(angles[n, 0.5]) == n and np.ptp(angles[n, 0.5]) < 0.8 * np.ptp(
                angles[n, 1.0]
            )
        assert angles[5, 0.5] == angles[30, 0.5][:5]
        covering = [cell for cell in self.cells("coverage") if cell.method == "apb"]
        same = {cell.train_id for cell in covering} & {cell.train_id for cell in cells}
        assert len(same) == 3  # suites share meta-trainings that are the same

    def test_architecture_has_every_depth_with_every_width(self):
        cells = [cell for cell in self.cells("architecture") if cell.method == "apb"]
        sizes = [(cell.config["depth"], cell.config["hidden"]) for cell in cells]
        assert sizes == [(depth, width) for depth in (1, 2, 3) for width in (64, 128, 256)]
        assert len({cell.train_id for cell in cells}) == 9
        same = [{**cell.config, "depth": 0, "hidden": 0} for cell in cells]
        assert all(config == same[0] for config in same)

    def test_what_has_no_variant_runs_once_as_it_is(self):
        for suite in ("coverage", "architecture"):
            (zero,) = [cell for cell in self.cells(suite) if cell.method == "zero"]
            assert zero.variant == ""
        alone = expand(
            OOD, SMOKE, {"apb": METHODS["apb"]}, families=["point-goal"], seeds=1, settings={}
        )
        assert [cell.variant for cell in alone] == [""]
