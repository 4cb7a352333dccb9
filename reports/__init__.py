"""Rows → numbers, tables, figures and pages. Importing this package loads nothing; its modules load pandas and matplotlib."""

APB_BENCHMARK_PACKAGE = "reports"


class ReportError(Exception):
    """A report cannot be made or written; the message says why and what to do about it."""
