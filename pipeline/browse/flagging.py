"""What the page sends to set a flag."""

from pydantic import Field

from pipeline.settings import Settings
from pipeline.store.flags import Flag, Mark


class FlagRequest(Settings):
    """A flag for the window of one row; ``mark: null`` takes it off."""

    generation: str
    """The store that the page shows."""
    row: int = Field(ge=0)
    """Row of the window."""
    mark: Mark | None
    """Bad, interesting or nothing."""
    note: str = Field("", max_length=2000)
    """Why."""

    def flag(self) -> Flag | None:
        """The flag, or ``None``."""
        return None if self.mark is None else Flag(self.mark, self.note)
