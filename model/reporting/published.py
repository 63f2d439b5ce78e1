"""Numbers that the papers report, to stand beside ours."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple


class PublishedScore(NamedTuple):
    """A row of a published table: PSNR in dB and SSIM."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class PublishedTable:
    """A published table.

    Attributes
    ----------
    source : where it is printed, and on what it was measured.
    protocol : the name of the protocol closest to its arithmetic
        (`model.evaluation.metrics.PROTOCOLS`).
    rows : its rows by name.
    """

    source: str
    protocol: str
    rows: MappingProxyType[str, PublishedScore]


TABLES: MappingProxyType[str, PublishedTable] = MappingProxyType(
    {
        "table-1": PublishedTable(
            "arXiv:1809.07759, Table 1 (DAVIS 2017 test-dev, 100 triplets, centre 128x128)",
            "as_published",
            MappingProxyType(
                {
                    "L1": PublishedScore(29.1, 0.820),
                    "L1 (ep. 93)": PublishedScore(27.1, 0.839),
                    "VGG": PublishedScore(20.4, 0.786),
                    "SSIM": PublishedScore(26.8, 0.845),
                    "L1 + 5e-5 VGG": PublishedScore(26.6, 0.833),
                    "L1 + 1e-5 VGG": PublishedScore(26.8, 0.837),
                    "linear": PublishedScore(26.7, 0.687),
                }
            ),
        ),
        "table-2": PublishedTable(
            'arXiv:1809.07759, Table 2 ("See you again", 960x540, triplets every 30 frames)',
            "as_published",
            MappingProxyType(
                {
                    "L1 ours": PublishedScore(36.5, 0.963),
                    "combined ours": PublishedScore(37.3, 0.966),
                    "L1 Niklaus": PublishedScore(41.31, 0.968),
                    "VGG Niklaus": PublishedScore(40.88, 0.965),
                }
            ),
        ),
        "middlebury": PublishedTable(
            "sepconv-slomo's benchmark, the paper's padding (Middlebury other, 12 triplets)",
            "niklaus",
            MappingProxyType(
                {
                    "L1 Niklaus": PublishedScore(35.73, 0.959),
                    "VGG Niklaus": PublishedScore(35.03, 0.954),
                }
            ),
        ),
    }
)
