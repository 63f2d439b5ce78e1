"""Optical flow between two frames: SimpleFlow for numba, and OpenCV's methods beside it.

Start reading at `pipeline.flow.optical_flow.compute_flow`. Pure functions of arrays: no stores, no
cluster, no command line.

May import: `pipeline.frames`, `pipeline.simd`.
"""
