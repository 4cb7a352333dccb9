"""How hopper-rand and walker-rand candidates were screened; not imported at run time."""
