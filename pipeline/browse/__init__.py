"""A local page to look at patch stores of any size, and to compare evaluations.

Start reading at `pipeline.browse.app.build_app`.

May import: `pipeline`, `pipeline.frames`, `pipeline.selection`, `pipeline.store`.
"""
