"""The form of a network in plain Python: what `model.network` needs where pydantic is missing.

`model.settings.NetworkSettings` has the same fields, takes its defaults from here, and adds what
settings have: ranges, meanings, messages.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

ModuleOrder = Literal["niklaus", "kartasev"]
Initialisation = Literal["orthogonal", "linear"]


class NetworkForm(Protocol):
    """What a network is built from; `model.settings.NetworkSettings` says what each field means."""

    @property
    def kernel_length(self) -> int: ...
    @property
    def width(self) -> float: ...
    @property
    def module_order(self) -> ModuleOrder: ...
    @property
    def initialisation(self) -> Initialisation: ...
    @property
    def normalise(self) -> bool: ...


@dataclass(frozen=True)
class NetworkShape:
    """A `NetworkForm` whose defaults are the paper's network."""

    kernel_length: int = 51
    width: float = 1.0
    module_order: ModuleOrder = "niklaus"
    initialisation: Initialisation = "orthogonal"
    normalise: bool = False


PAPER = NetworkShape()
