"""What a number in a table is called, its unit, and whether more of it is better."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Measure:
    """One measure of likeness, under any protocol."""

    name: str
    title: str
    digits: int
    higher_is_better: bool
    unit: str = ""

    @property
    def heading(self) -> str:
        """Title with the unit, and a mark where lower is better."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.title}{unit}{'' if self.higher_is_better else ' ↓'}"


MEASURES: MappingProxyType[str, Measure] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            Measure("psnr", "PSNR", 2, True, "dB"),
            Measure("ssim", "SSIM", 4, True),
            Measure("ie", "IE", 3, False),
            Measure("nie", "NIE", 3, False),
            Measure("lpips", "LPIPS", 4, False),
            Measure("xpsnr", "XPSNR", 2, True, "dB"),
            Measure("vmaf", "VMAF", 2, True),
        )
    }
)
