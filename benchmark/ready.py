"""What worker processes need, imported once for all of them by the server that forks them."""

import gc
from contextlib import suppress
from importlib import import_module

from methods import METHODS

# torch imports the second of them where an optimiser is made, which takes seconds
NEEDED = ("benchmark.worker", "torch._dynamo", "benchmark.cli", "benchmark.theory", "envs.tuning")

gc.disable()  # what imports make is no garbage
with suppress(Exception):  # workers import what is missing, and tell what is wrong with it
    for _module in (*NEEDED, *sorted({path.partition(":")[0] for path in METHODS.values()})):
        import_module(_module)
gc.enable()
gc.freeze()  # what lives as long as the process need not be searched for garbage, which copies it
