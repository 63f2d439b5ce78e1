"""From a store of patches to a trained network, its scores and smoother videos.

The modules beside the rooms are what all rooms share: settings and pixels.

May import: `pipeline`.
"""
