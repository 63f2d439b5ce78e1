"""What is measured, each by a program of its own: ``python benchmarks/bench_NAME.py``."""
