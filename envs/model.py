"""Compiled models, with MuJoCo set not to hide a simulation that diverged."""

import ctypes
from pathlib import Path

import mujoco


def load_model(path: Path) -> mujoco.MjModel:
    """The model of an MJCF file; its simulations are not reset in silence when they diverge, and warnings are not printed."""
    if mujoco.get_mju_user_warning() is None:
        # The default handler prints, and drops MUJOCO_LOG.TXT into the current directory. Threads of the pool call the handler,
        # so ours is a C function, which needs no lock of Python's: any one without side effects that takes a string will do.
        mujoco.set_mju_user_warning(ctypes.CDLL(None).strlen)
    model = mujoco.MjModel.from_xml_path(str(path))
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    return model
