"""Pictures against a supersampled disc and MuJoCo's own, the encoder against torch's."""

import hashlib

import numpy as np
import pytest
import torch

from envs import PIXELS, load_family
from envs.batch import BatchEnv
from envs.pixels import (
    FEATURES,
    LAYERS,
    PUCK,
    REACH,
    SIZE,
    _features,
    _statistics,
    encode,
    pictures,
    weights,
)

GENERATOR = np.random.default_rng(0)
PLACES = GENERATOR.uniform(-2, 2, (6, 2))


def supersampled(place, factor=16):
    """The share of each pixel that the disc covers, from a grid of points within the pixel."""
    n = SIZE * factor
    along = (np.arange(n) + 0.5) * 2 * REACH / n - REACH
    inside = np.hypot(along[None, :] - place[0], -along[:, None] - place[1]) < PUCK
    return inside.reshape(SIZE, factor, SIZE, factor).mean(axis=(1, 3))


class TestPictures:
    def test_they_are_a_disc_whose_edge_is_smooth(self):
        seen = pictures(PLACES)
        assert seen.shape == (6, SIZE, SIZE) and seen.dtype == np.float32
        for picture, place in zip(seen, PLACES, strict=True):
            naive = supersampled(place)
            assert np.abs(picture - naive).max() < 0.15
            assert picture.sum() == pytest.approx(naive.sum(), rel=0.02)

    def test_up_is_up_and_right_is_right(self):
        (picture,) = pictures(np.array([[1.0, 2.0]]))
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        assert row < SIZE // 4 and SIZE // 2 < column < 3 * SIZE // 4

    def test_a_puck_beyond_the_edge_is_not_seen(self):
        assert not pictures(np.array([[3.0, 0.0]])).any()

    def test_they_are_those_of_mujoco_from_above(self):
        """Compare the puck's middle with a picture by a camera high enough to see straight down."""
        mujoco = pytest.importorskip("mujoco")
        family = load_family("point-goal")
        model = mujoco.MjModel.from_xml_path(str(family.xml()))
        model.vis.map.zfar = 1000.0
        data = mujoco.MjData(model)
        try:
            renderer = mujoco.Renderer(model, SIZE, SIZE)
        except Exception:  # each library that may be missing raises its own
            pytest.skip("there is no OpenGL")
        camera = mujoco.MjvCamera()
        camera.azimuth, camera.elevation = 90.0, -90.0
        camera.distance = REACH / np.tan(np.deg2rad(model.vis.global_.fovy / 2))
        for place in PLACES:
            data.qpos[:] = place
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            blue = renderer.render().astype(float)
            puck = blue[..., 2] - blue[..., 0] > 60
            theirs = np.argwhere(puck).mean(axis=0)
            (ours,) = pictures(place[None])
            weight = ours / ours.sum()
            middle = [(weight * axis).sum() for axis in np.indices(ours.shape)]
            assert np.abs(theirs - middle).max() < 1.5  # pixels
        renderer.close()


class TestEncoder:
    def test_it_is_torchs_convolutions(self):
        seen = GENERATOR.random((3, 1, SIZE, SIZE)).astype(np.float32)
        filters, last = weights()
        x = torch.from_numpy(seen)
        for (n, width, stride), own in zip(LAYERS, filters, strict=True):
            kernel = torch.from_numpy(own).T.reshape(n, x.shape[1], width, width)
            x = torch.nn.functional.conv2d(x, kernel, stride=stride).relu()
        expected = x.flatten(1) @ torch.from_numpy(last)
        np.testing.assert_allclose(encode(seen), expected.numpy(), rtol=1e-4, atol=1e-4)

    def test_its_weights_are_the_same_everywhere(self):
        digest = hashlib.sha256()
        for tensor in (*weights()[0], weights()[1]):
            digest.update(np.round(tensor, 5).tobytes())
        assert digest.hexdigest()[:16] == "f229fbb7cf148137"

    def test_a_place_can_be_read_off_its_features(self):
        places = GENERATOR.uniform(-2, 2, (1500, 2))
        mean, deviation = _statistics()
        seen = (_features(places, np.zeros_like(places)) - mean) / deviation
        seen, wanted = (torch.tensor(each, dtype=torch.float32) for each in (seen, places))
        generator = torch.Generator().manual_seed(0)
        w = [
            torch.randn(66, 64, generator=generator) / 8,
            torch.randn(64, 2, generator=generator) / 8,
        ]
        w = [tensor.requires_grad_() for tensor in w]
        adam = torch.optim.Adam(w, 3e-3)
        for _ in range(800):
            index = torch.randint(1200, (128,), generator=generator)
            loss = ((seen[index] @ w[0]).relu() @ w[1] - wanted[index]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            error = (seen[1200:] @ w[0]).relu() @ w[1] - wanted[1200:]
        assert (1 - error.var(0) / wanted[1200:].var(0) > 0.9).all()


@pytest.mark.parametrize("name", PIXELS)
class TestFamilies:
    def test_its_entries_have_one_scale(self, name):
        family = load_family(name)
        places, speeds = GENERATOR.uniform(-2, 2, (800, 2)), GENERATOR.uniform(-1, 1, (800, 2))
        seen = family.observe(places, speeds, {})
        assert seen.shape == (800, FEATURES + 2) == (800, family.observation_size)
        assert seen.dtype == np.float32
        assert np.abs(seen.mean(axis=0)).max() < 0.3
        assert np.abs(seen.std(axis=0) - 1).max() < 0.3

    @pytest.mark.parametrize("split", ["id", "ood", "ood-sealed-5", "shift"])
    def test_its_tasks_are_the_point_familys(self, name, split):
        family, base = load_family(name), load_family(name.removeprefix("pixels-"))
        split = split if split != "ood-sealed-5" else _sealed("ood", 5)
        for ours, theirs in zip(family.split(split), base.split(split), strict=True):
            assert (ours.family, theirs.family) == (name, base.id)
            assert (ours.params, ours.shift, ours.shift_axis) == (
                theirs.params,
                theirs.shift,
                theirs.shift_axis,
            )
        assert family.version != base.version and not family.isomorphic

    def test_its_physics_and_rewards_are_the_point_familys_and_no_task_is_seen(self, name):
        family, base = load_family(name), load_family(name.removeprefix("pixels-"))
        envs = [BatchEnv(each, each.split("ood")[:3], seed=1) for each in (family, base)]
        first = [env.reset() for env in envs]
        # they start at other places, because reset noise depends on the task's name
        envs[0].batch.bind("qpos")[:] = envs[1].batch.bind("qpos")
        action = np.array([[[0.7, -0.4]]], np.float32).repeat(3, axis=0)
        for _ in range(20):
            ours, theirs = (env.step(action) for env in envs)
            np.testing.assert_array_equal(ours.reward, theirs.reward)
        state = theirs.obs.reshape(3, 4)
        expected = family.observe(state[:, :2], state[:, 2:], {})
        np.testing.assert_allclose(ours.obs[:, 0], expected, rtol=1e-3, atol=1e-3)
        assert first[0].shape == (3, 1, FEATURES + 2)


def _sealed(split, seed):
    from envs.sealed import sealed_name

    return sealed_name(split, seed)
