"""Compiled models, with MuJoCo set not to hide a simulation that diverged."""

import ctypes
from collections.abc import Mapping
from pathlib import Path

import mujoco
import numpy as np

from envs.api import FloatArray


def checked(fields: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
    """The model fields [S, …] of tasks, if a body can have them.

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
        # The default handler prints, and drops MUJOCO_LOG.TXT into the current directory. Threads
        # of the pool call the handler, so ours is a C function, which needs no lock of Python's:
        # any one without side effects that takes a string will do.
        mujoco.set_mju_user_warning(ctypes.CDLL(None).strlen)
    model = mujoco.MjModel.from_xml_path(str(path))
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    # one body is one island: to look for others changes no bit and takes 8 % of an ant's step
    if model.ntree == 1:
        model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
    return model
