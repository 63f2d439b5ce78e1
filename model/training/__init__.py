"""Training stages: from a patch store to weights for each epoch.

Start reading at `model.training.train.train`, then `model.training.stage.Stage.run`. May import
`model.network`, `model.evaluation` (its triplets and metrics), `model.video.interpolation` and
the patch store.
"""
