"""How hopper-rand and walker-rand candidates were screened; nothing imports this at run time."""
