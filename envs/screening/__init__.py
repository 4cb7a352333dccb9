"""How the candidates of hopper-rand and walker-rand were screened; nothing imports this at run time."""
