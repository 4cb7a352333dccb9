"""Checks whether the published numbers still follow from their rows and from the code."""
