"""The ant's exact symmetries, and which test tasks they make images of training tasks."""

from collections.abc import Sequence

import mujoco
import numpy as np
import pytest

from envs.ant import AntDir, AntDir4, AntGoal, AntGoalGap
from envs.api import FloatArray, Task
from envs.batch import BatchEnv

PI = np.pi
MODEL = mujoco.MjModel.from_xml_path(str(AntDir().xml()))


def plane_rotation(angle: float) -> FloatArray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


QUARTERS = [np.round(plane_rotation(k * PI / 2)) for k in range(4)]
BODY_SYMMETRIES = [
    turn @ mirror for mirror in (np.eye(2), np.diag([1.0, -1.0])) for turn in QUARTERS
]


def body_maps(g: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Maps of qpos [15, 15], qvel [14, 14] and action [8, 8] when everything is turned or mirrored
    by g and legs are renumbered.

    Positions and velocities transform by g. Quaternion parts, angular velocities and joint axes are
    axial vectors and transform by det(g)·g; if a leg's image has its hinge along minus the image of
    the axis, the joint changes its sign. The torso's angular velocity is in its own frame, which is
    turned too.
    """
    polar = np.eye(3)
    polar[:2, :2] = g
    axial = np.linalg.det(g) * polar
    joints = np.zeros((8, 8))
    for leg in range(1, 5):
        place = polar @ MODEL.body(f"aux_{leg}").pos
        (image,) = (k for k in range(1, 5) if np.allclose(MODEL.body(f"aux_{k}").pos, place))
        for part in ("hip", "ankle"):
            one, other = MODEL.joint(f"{part}_{leg}"), MODEL.joint(f"{part}_{image}")
            # joint 0 is the free joint
            joints[other.id - 1, one.id - 1] = np.round(other.axis @ axial @ one.axis)
    qpos, qvel = np.eye(15), np.eye(14)
    qpos[:3, :3], qpos[4:7, 4:7], qpos[7:, 7:] = polar, axial, joints
    qvel[:3, :3], qvel[3:6, 3:6], qvel[6:, 6:] = polar, axial, joints
    order = MODEL.actuator_trnid[:, 0] - 1
    return qpos, qvel, joints[np.ix_(order, order)]


def world_maps(angle: float) -> tuple[FloatArray, FloatArray]:
    """Maps of qpos and qvel into a turned world, without renumbering; the action stays the same."""
    cos, sin = np.cos(angle / 2), np.sin(angle / 2)
    qpos, qvel = np.eye(15), np.eye(14)
    qpos[:2, :2] = qvel[:2, :2] = plane_rotation(angle)
    qpos[3:7, 3:7] = [[cos, 0, 0, -sin], [0, cos, -sin, 0], [0, sin, cos, 0], [sin, 0, 0, cos]]
    return qpos, qvel


def play(
    directions: Sequence[float],
    starts: Sequence[tuple[FloatArray, FloatArray]],
    actions: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Play ant-dir from N starts under actions [T, N, 8].

    Returns qpos [T, N, 15], qvel [T, N, 14] and rewards [T, N].
    """
    family, offsets = AntDir(), iter([(qpos - MODEL.qpos0, qvel) for qpos, qvel in starts])
    family.reset_noise = lambda generator: next(offsets)  # type: ignore[method-assign]
    family.terminated = lambda qpos, qvel: np.zeros(len(qpos), bool)  # type: ignore[method-assign]
    env = BatchEnv(
        family,
        [Task("ant-dir", "here", i, {"direction": angle}) for i, angle in enumerate(directions)],
    )
    env.reset()
    rows = []
    for action in actions:
        reward = env.step(action[:, None]).reward[:, 0]
        rows.append((env.batch.bind("qpos").copy(), env.batch.bind("qvel").copy(), reward))
    qpos, qvel, rewards = (np.array(column) for column in zip(*rows, strict=True))
    return qpos, qvel, rewards


def contacts(qpos: FloatArray, geom: str | None = None) -> int:
    """Count the contacts in positions [T, 15], of any geom or of one."""
    data, count = mujoco.MjData(MODEL), 0
    for row in qpos:
        data.qpos[:] = row
        mujoco.mj_fwdPosition(MODEL, data)
        count += sum(
            geom is None or MODEL.geom(geom).id in pair for pair in data.contact.geom[: data.ncon]
        )
    return count


@pytest.mark.parametrize("g", BODY_SYMMETRIES[1:], ids=lambda g: str(g.astype(int).tolist()))
def test_the_body_symmetries_map_motions_and_rewards_and_keep_the_starts(g: FloatArray) -> None:
    maps = qpos_map, qvel_map, action_map = body_maps(g)
    # a signed permutation keeps uniform cubes, isotropic normals and the bounds on the action
    for signed in maps:
        np.testing.assert_array_equal(
            np.sort(np.abs(signed), axis=1)[:, -2:], np.tile([0, 1], (len(signed), 1))
        )
        np.testing.assert_array_equal(signed @ signed.T, np.eye(len(signed)))
    np.testing.assert_array_equal(qpos_map @ MODEL.qpos0, MODEL.qpos0)

    generator = np.random.default_rng(2)  # with this seed it lands on its legs and on its torso
    noise_qpos, noise_qvel = AntDir().reset_noise(generator)
    qpos = MODEL.qpos0 + noise_qpos
    actions = generator.uniform(-1, 1, (60, 8))
    image = g @ [np.cos(0.3), np.sin(0.3)]
    place, velocity, reward = play(
        [0.3, float(np.arctan2(image[1], image[0]))],
        [(qpos, noise_qvel), (qpos_map @ qpos, qvel_map @ noise_qvel)],
        np.stack((actions, actions @ action_map.T), axis=1),
    )
    # Sums are rounded in another order, and the motion magnifies the difference tenfold in about 15
    # steps, to 1e-10 at the end.
    np.testing.assert_allclose(place[:, 1], place[:, 0] @ qpos_map.T, atol=1e-8)
    np.testing.assert_allclose(velocity[:, 1], velocity[:, 0] @ qvel_map.T, atol=1e-8)
    np.testing.assert_allclose(reward[:, 1], reward[:, 0], atol=1e-5)  # float32
    assert contacts(place[:, 0]) > 20 and contacts(place[:, 0], "torso_geom") > 0


def test_every_direction_outside_the_law_is_a_quarter_turn_from_one_inside() -> None:
    assert AntDir.isomorphic == {"direction"}
    for task in AntDir().split("ood"):
        assert 0 <= task.params["direction"] - PI / 2 <= 1.5 * PI


def test_no_symmetry_of_the_body_takes_an_axis_to_a_diagonal() -> None:
    assert AntDir4.isomorphic == frozenset()
    axes = [
        [np.cos(task.params["direction"]), np.sin(task.params["direction"])]
        for task in AntDir4().split("id")
    ]
    diagonals = [
        [np.cos(task.params["direction"]), np.sin(task.params["direction"])]
        for task in AntDir4().split("gap")
    ]
    images = np.array([g @ axis for g in BODY_SYMMETRIES for axis in axes])
    cosines = images @ np.array(diagonals).T
    assert cosines.max() == pytest.approx(np.cos(PI / 4))
    # an eighth of a turn does not map the body to itself either
    with pytest.raises(ValueError, match="unpack"):
        body_maps(plane_rotation(PI / 4))


@pytest.mark.parametrize(
    ("on_its_back", "angle", "same"),
    [(False, PI / 4, True), (True, PI / 4, False), (True, PI / 2, True)],
)
def test_a_turned_world_keeps_motions_until_the_torso_touches_the_floor_but_not_the_starts(
    on_its_back: bool, angle: float, same: bool
) -> None:
    generator = np.random.default_rng(0)
    noise, qvel = AntDir().reset_noise(generator)
    qpos = MODEL.qpos0 + noise
    if on_its_back:
        qpos[2:7] = 0.4, 0, 1, 0, 0
        qvel[:2] = 1.0, 0.5  # it slides
    qpos_map, qvel_map = world_maps(angle)
    actions = generator.uniform(-1, 1, (60, 8))
    place, _, reward = play(
        [0.3, 0.3 + angle],
        [(qpos, qvel), (qpos_map @ qpos, qvel_map @ qvel)],
        np.stack((actions, actions), axis=1),
    )
    assert contacts(place[:, 0]) > 0
    assert (contacts(place[:, 0], "torso_geom") > 0) == on_its_back
    error = np.abs(place[:, 1] - place[:, 0] @ qpos_map.T).max()
    assert (error < 1e-8) if same else (error > 1e-3)
    assert (np.abs(reward[:, 1] - reward[:, 0]).max() < 1e-5) == same
    # more than the ±0.1 by which a start may differ
    assert np.abs(qpos_map @ MODEL.qpos0 - MODEL.qpos0).max() > 0.3


def test_goals_at_other_radii_are_no_images_of_each_other() -> None:
    assert AntGoal.isomorphic == AntGoalGap.isomorphic == frozenset()
    for g in BODY_SYMMETRIES:  # all keep the distance from the origin
        np.testing.assert_array_equal(g @ g.T, np.eye(2))
