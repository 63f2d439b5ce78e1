"""Where frames come from: datasets by name, fetched over HTTP, checked, unpacked and recorded.

Start reading at `pipeline.sources.datasets.fetch`.

May import: `pipeline`, `pipeline.frames`, `pipeline.selection`.
"""
