"""What was found, as JSON and as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.supervisor import Outcome


def write(outcomes: list[Outcome], mode: str, seconds: float, out: Path) -> tuple[Path, Path]:
    """Write ``OUT.json`` and ``OUT.md``; returns their paths."""
    out.parent.mkdir(parents=True, exist_ok=True)
    paths = out.with_suffix(".json"), out.with_suffix(".md")
    whole = {"mode": mode, "seconds": seconds, "parts": outcomes}
    paths[0].write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(markdown(outcomes, mode, seconds), encoding="utf-8")
    return paths


def markdown(outcomes: list[Outcome], mode: str, seconds: float) -> str:
    """A headline, the failures first, and a section for each part."""
    failed = [outcome["part"] for outcome in outcomes if outcome["state"] == "failed"]
    skipped = [outcome["part"] for outcome in outcomes if outcome["state"] == "skipped"]
    machine = next((o.get("found", {}) for o in outcomes if o["part"] == "machine"), {})
    lines = [f"# GPU check: {machine.get('device', 'unknown device')}", ""]
    lines += [f"{mode}, {seconds:.0f} s, {len(outcomes)} parts.", ""]
    lines += [f"Failed: {', '.join(failed) or 'none'}. Skipped: {', '.join(skipped) or 'none'}."]
    for outcome in outcomes:
        lines += ["", f"## {outcome['part']}: {outcome['state']} ({outcome['seconds']:.1f} s)", ""]
        if "error" in outcome:
            lines += [outcome["error"], ""]
        if "traceback" in outcome:
            lines += ["```", outcome["traceback"].rstrip(), "```"]
        lines += _section(outcome.get("found", {}))
    return "\n".join(lines).rstrip() + "\n"


def _section(found: dict[str, Any]) -> list[str]:
    rows = {name: value for name, value in found.items() if isinstance(value, dict)}
    lines = [f"- {name}: {_text(value)}" for name, value in found.items() if name not in rows]
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    if rows:
        lines += [""] if lines else []
        lines += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for name, row in rows.items():
            cells = (_text(row[column]) if column in row else "" for column in columns)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "; ".join(map(_text, value))
    return str(value)
