"""Parts that several papers share and that have one right answer: networks, replay, losses."""
