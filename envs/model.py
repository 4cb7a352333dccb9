"""Compiled models, with MuJoCo set not to hide a simulation that has diverged."""

import ctypes
from collections.abc import Mapping
from pathlib import Path

import mujoco
import numpy as np

from envs.api import FloatArray


def checked(fields: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
    """Return the tasks' model fields [S, …] if a body can have them.

    Raises:
      ValueError: if a number is not finite, a mass or an inertia not positive, or a damping
        negative.
    """
    for name, values in fields.items():
        ok = bool(np.isfinite(values).all())
        if name in ("body_mass", "body_inertia"):
            ok = ok and bool((values[:, 1:] > 0).all())  # the first body is the world
        if name == "dof_damping":
            ok = ok and bool((values >= 0).all())
        if not ok:
            raise ValueError(
                f"the tasks' params give a {name} that no body can have; check their signs and"
                " sizes"
            )
    return fields


def load_model(path: Path) -> mujoco.MjModel:
    """Load an MJCF model without silent resets on divergence and without printed warnings."""
    if mujoco.get_mju_user_warning() is None:
        # The default handler prints and writes MUJOCO_LOG.TXT to the current directory. The pool's
        # threads call the handler, so ours is a C function, which does not need Python's lock: any
        # function that takes a string and has no side effects will do.
        mujoco.set_mju_user_warning(ctypes.CDLL(None).strlen)
    model = mujoco.MjModel.from_xml_path(str(path))
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    # one tree is one island: looking for others changes no bit and takes 8 % of an ant's step
    if model.ntree == 1:
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    return model
