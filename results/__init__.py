"""Measured results: the schema of a row and the store of finished cells."""

APB_BENCHMARK_PACKAGE = "results"
