"""What a reader sees of measurements: comparisons, tables, figures and the report.

Start reading at `model.reporting.tables.make_table`. May import `model.evaluation`,
`model.video.interpolation` and the manifests of training stages.
"""
