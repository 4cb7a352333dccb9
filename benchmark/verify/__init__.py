"""Do the published numbers still hold? From their rows, and from the code."""
