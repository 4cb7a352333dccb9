"""Reports on rows: numbers, tables, figures and pages.

Only the modules import pandas and matplotlib, not the package itself.
"""

APB_BENCHMARK_PACKAGE = "reports"


class ReportError(Exception):
    """A report cannot be made or written; the message says why and what to do about it."""
