"""Training stages: from a patch store to weights for each epoch.

Start reading at `model.training.train.train`, then `model.training.stage.Stage.run`.

May import: `model`, `model.evaluation`, `model.network`, `model.video`, `pipeline`,
`pipeline.frames`, `pipeline.store`.
"""
