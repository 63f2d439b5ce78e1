"""`load_network` under the name that others may import; see `model.network.checkpoints`."""

from model.network.checkpoints import load_network as load_network
