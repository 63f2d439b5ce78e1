"""Measuring: benchmarks, triplets, metrics under named protocols, and intervals.

Start reading at `model.evaluation.evaluate.evaluate`. May import `model.network`,
`model.video.interpolation` and the frames of the pipeline.
"""
