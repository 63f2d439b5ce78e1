"""From videos to a store of patches: everything before a network is trained.

The modules beside the rooms are what all rooms share: settings, errors, provenance, resuming,
progress, the cluster and vector registers.

May import: nothing.
"""
