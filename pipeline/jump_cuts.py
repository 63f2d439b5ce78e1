"""`find_cuts` under the name that others may import; see `pipeline.selection.jump_cuts`."""

from pipeline.selection.jump_cuts import find_cuts as find_cuts
