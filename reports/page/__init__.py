"""Parts → pages and files."""
