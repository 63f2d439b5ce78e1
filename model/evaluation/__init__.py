"""Measuring: benchmarks, triplets, metrics under named protocols, and intervals.

Start reading at `model.evaluation.evaluate.evaluate`.

May import: `model`, `model.network`, `model.video`, `pipeline`, `pipeline.frames`,
`pipeline.selection`, `pipeline.store`.
"""
