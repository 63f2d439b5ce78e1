"""Where frames come from: datasets by name, fetched over HTTP, checked, unpacked and recorded.

Start reading at `pipeline.sources.datasets.fetch`. May import `pipeline.frames` and what all rooms
share (settings, provenance, progress, disk space, errors).
"""
