"""From videos to a store of patches: everything before a network is trained."""
