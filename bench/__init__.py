"""Benchmarks: one script a claim, each printing a ratio measured in one run."""
