"""The parts of `gpu_check.py`: what it proves and what it measures."""
