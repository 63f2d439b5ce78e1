"""From frames to patches: motion scores, jump cuts, and which windows of which triplets are taken.

Start reading at `pipeline.selection.patches.sample`.

May import: `pipeline`, `pipeline.flow`, `pipeline.frames`, `pipeline.store`.
"""
