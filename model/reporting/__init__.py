"""What a reader sees of measurements: comparisons, tables, figures and the report.

Start reading at `model.reporting.tables.make_table`.

May import: `model`, `model.evaluation`, `model.network`, `model.training`, `model.video`,
`pipeline`, `pipeline.frames`, `pipeline.store`.
"""
