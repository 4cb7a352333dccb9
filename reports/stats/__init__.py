"""Numbers from rows: scores, intervals and tests. Nothing here draws."""
