"""Rows → numbers: scores, intervals, tests. Nothing here draws."""
