"""Pages and files, put together from `reports.parts`."""
