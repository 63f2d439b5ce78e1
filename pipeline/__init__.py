"""From videos to a store of patches: everything before a network is trained.

The modules beside the rooms are what all rooms share: settings, errors, provenance, resuming,
progress and the cluster.

May import: nothing.
"""
