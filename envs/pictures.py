"""Pictures of simulations, drawn off screen."""

from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

SIZE = 480  # pixels: height and width of a picture
CAMERA = "track"  # what Gymnasium's models call the camera that follows the body

NO_GL = (
    "MuJoCo found no OpenGL to draw with. On a machine without a display, set the environment variable MUJOCO_GL before Python "
    "starts: MUJOCO_GL=egl draws on a graphics card or in software (Debian package libegl1), MUJOCO_GL=osmesa in software only "
    "(libosmesa6). Nothing but pictures needs it."
)


class Pictures:
    """Draws the simulations of a Batch one at a time, each with its own task's model.

    The view is that of the model's camera "track", else of its first camera, else of MuJoCo's free camera.
    """

    def __init__(self, batch: Batch) -> None:
        """Get ready to draw.

        Raises:
          RuntimeError: if there is no OpenGL to draw with; it says what to install and to set.
        """
        self._batch = batch
        self._model, self._data = batch.get_model(0), mujoco.MjData(batch.model)
        named = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, CAMERA)
        self._camera = max(named, 0) if self._model.ncam else -1
        try:
            self._renderer: Any = mujoco.Renderer(self._model, SIZE, SIZE)
        except Exception as error:  # each of the libraries that may be missing raises its own
            raise RuntimeError(NO_GL) from error

    def __call__(self, simulation: int) -> NDArray[np.uint8]:
        """The picture [SIZE, SIZE, 3] of a simulation as it is now; nothing in the Batch changes."""
        self._batch.get_model(simulation, self._model)
        self._batch.get_data(simulation, self._data)
        mujoco.mj_forward(self._model, self._data)  # places of the bodies, the camera and the lights
        self._renderer.update_scene(self._data, camera=self._camera)
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def close(self) -> None:
        """Free the graphics memory; nothing can be drawn after it."""
        self._renderer.render()  # the Renderer frees what it calls its own in whichever context is current: make that its own
        self._renderer.close()
