"""Optical flow between two frames: SimpleFlow for numba, and OpenCV's methods beside it.

Start reading at `pipeline.flow.optical_flow.compute_flow`. Pure functions of arrays: may import
`pipeline.simd` and the type of a frame, and neither stores nor cluster nor command line.
"""
