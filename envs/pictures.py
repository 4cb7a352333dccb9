"""Pictures of simulations, drawn off screen."""

from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

SIZE = 480  # pixels: height and width of a picture
CAMERA = "track"  # name in Gymnasium's models of the camera that follows the body

NO_GL = (
    "MuJoCo found no OpenGL to draw with. On a machine without a display, set the environment"
    " variable MUJOCO_GL before Python starts: MUJOCO_GL=egl draws on a graphics card or in"
    " software (Debian package libegl1), MUJOCO_GL=osmesa in software only (libosmesa6). Nothing"
    " but pictures needs it."
)


class Pictures:
    """Draws the simulations of a Batch one at a time, each with its own task's model.

    The view is from the model's camera "track", else from its first camera, else from MuJoCo's free
    camera.
    """

    def __init__(
        self,
        batch: Batch,
        size: int = SIZE,
        goal: tuple[float, float] | None = None,
        plain: bool = False,
    ) -> None:
        """Prepare the renderer.

        Args:
          size: height and width in pixels.
          goal: position (x, y) in m of a goal to draw, which the model does not contain; None for
            no goal. With a goal, a camera that follows the body is replaced by a fixed one that
            sees the start and the goal.
          plain: leave out shadows and reflections, which are nine tenths of the work in software.

        Raises:
          RuntimeError: if there is no OpenGL to draw with; the message says what to install and
            to set.
        """
        self._batch = batch
        self._goal = goal
        self._plain = plain
        self._model = batch.get_model(0)
        self._data = mujoco.MjData(batch.model)
        named = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, CAMERA)
        self._camera: Any = max(named, 0) if self._model.ncam else -1
        if goal is not None and named >= 0:
            self._camera = _standing(goal)
        try:
            self._renderer: Any = mujoco.Renderer(self._model, size, size)
        except Exception as error:  # each library that may be missing raises its own
            raise RuntimeError(NO_GL) from error

    def __call__(self, simulation: int) -> NDArray[np.uint8]:
        """Picture [size, size, 3] of a simulation's current state; the Batch is left unchanged."""
        self._batch.get_model(simulation, self._model)
        self._batch.get_data(simulation, self._data)
        # computes the places of the bodies, the camera and the lights
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, camera=self._camera)
        if self._goal is not None:
            _add_goal(self._renderer.scene, self._goal)
        if self._plain:
            for effect in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self._renderer.scene.flags[effect] = 0
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def close(self) -> None:
        """Free the graphics memory; nothing can be drawn afterwards."""
        # the Renderer frees its resources in whichever context is current; rendering makes its own
        # context current
        self._renderer.render()
        self._renderer.close()


def _standing(goal: tuple[float, float]) -> mujoco.MjvCamera:
    """A camera above and in front of the origin–goal midpoint, x to the right as in the models."""
    camera = mujoco.MjvCamera()
    camera.lookat[:] = goal[0] / 2, goal[1] / 2, 0.0
    camera.azimuth = 90.0
    camera.elevation = -50.0
    camera.distance = 4.0 + 1.2 * float(np.hypot(*goal))
    return camera


def _add_goal(scene: Any, goal: tuple[float, float]) -> None:
    """Add a red disc just above the ground, so that a body on it is still seen."""
    disc = scene.geoms[scene.ngeom]
    rgba = np.array([0.85, 0.2, 0.1, 1.0], np.float32)
    centre = np.array([*goal, 0.0])
    axes = np.eye(3).flatten()
    mujoco.mjv_initGeom(
        disc, mujoco.mjtGeom.mjGEOM_CYLINDER, np.array([0.15, 0.01, 0.0]), centre, axes, rgba
    )
    scene.ngeom += 1
