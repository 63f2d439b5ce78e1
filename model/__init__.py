"""From a store of patches to a trained network, its scores and smoother videos."""
