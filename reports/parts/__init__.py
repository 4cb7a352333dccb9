"""Numbers → the parts of a page: a figure or a table each."""
