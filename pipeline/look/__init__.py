"""Looking at a patch store: a summary, a contact sheet and a page.

Start reading at `pipeline.look.inspection.inspect`.

May import: `pipeline`, `pipeline.selection`, `pipeline.store`.
"""
