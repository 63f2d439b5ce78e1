"""The network: its architecture, weights on disk, losses, and frames larger than memory.

Start reading at `model.network.architecture.SepConv`.

May import: `model`, `model.sepconv`, `pipeline`, `pipeline.sources`.
"""

from model.network.architecture import SepConv as SepConv
