"""A method that reads the frozen tasks is found out by sealed ones."""

# a method that looks up every frozen goal by its place in the split, and goes there
PEEKING = """
from envs import load_family

class Goes(Policy):
    def act(self, obs):
        tasks = load_family("point-goal").split("ood")
        angle = np.array([task.params["angle"] for task in tasks])
        radius = np.array([task.params["radius"] for task in tasks])
        goal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)[:, None]
        return np.clip(4 * (goal - obs[..., :2]) - 2 * obs[..., 2:], -1, 1).astype(np.float32)

class Goer(Walker):
    def policy(self, generator): return Goes(self.env.action_size)

class Peeking(Still):
    def adapter(self, make_env, n_tasks, streams): return Goer(make_env())
"""


def test_reading_the_frozen_tasks_gains_nothing_on_sealed_ones(
    plugin, smoke, cli, no_figures, rows_of, here
):
    words = ("--methods", "zero", "--method", f"{plugin(PEEKING)}:Peeking")
    for sealed in ((), ("--sealed", "5"), ("--sealed", "6")):
        done = smoke(*words, *sealed)
        assert (done.code, done.err) == (0, "")
    rows = rows_of("store")
    ends = rows[rows["env_steps"] == rows.groupby("method")["env_steps"].transform("max")]
    means = ends.groupby(["method", "split"])["return_mean"].mean()
    assert means["peeking", "ood"] > means["zero", "ood"] + 30
    for split in ("ood-sealed-5", "ood-sealed-6"):
        assert means["peeking", split] < means["zero", split] + 5, means
    assert cli("report", "--store", "store", "--format", "md").code == 0
    page = (here / "report/report.md").read_text()
    assert "## Frozen and sealed tasks" in page
    assert (here / "report/data/sealed-tasks.csv").is_file()


def test_the_seed_is_a_whole_number(smoke):
    assert "--sealed" in smoke("--sealed", "-1").complaint
    assert "--sealed" in smoke("--sealed", "x").complaint
