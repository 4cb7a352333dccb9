"""Imports what worker processes need, once for all of them, in the server that forks them."""

import gc
from contextlib import suppress
from importlib import import_module

from methods import METHODS

# torch imports torch._dynamo when an optimiser is made, which takes seconds
NEEDED = ("benchmark.worker", "torch._dynamo", "benchmark.cli", "benchmark.theory", "envs.tuning")

gc.disable()  # objects that imports create are not garbage
with suppress(Exception):  # a worker imports what is missing, and reports its error
    for _module in (*NEEDED, *sorted({path.partition(":")[0] for path in METHODS.values()})):
        import_module(_module)
gc.enable()
gc.freeze()  # these objects live as long as the process, and a garbage search would copy them
