"""A finished run as a Workflow Run RO-Crate: its files, and JSON-LD that says how they were made.

The profile is Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5) over RO-Crate 1.1.
Frames, patches and kept predictions stay out: licences often forbid to pass them on.
"""

import json
import mimetypes
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import MidframeError
from pipeline.provenance import check_replaceable, file_digest, publish, write_manifest

KIND = "crate"
FORMAT_VERSION = 1
LEFT_OUT = ("datasets", "motion", "cuts", "patches", "predictions", "logs", "benchmarks")
WORKFLOW = Path(__file__).parents[2] / "workflow"
SNAKEFILE = "workflow/Snakefile"
PROFILES = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"


def write_crate(results: Path, config: Path, out: Path) -> int:
    """Copy a finished run's results to ``out`` and describe them; return how many files.

    Parameters
    ----------
    results : the folder ``results`` of the configuration, after ``snakemake all``.
    config : the configuration of the run.
    out : the crate's folder, a new one.

    Raises
    ------
    MidframeError
        if the run is not finished (there is no report), the configuration is missing, or ``out``
        cannot be written.
    """
    report = results / "report.html"
    if not report.is_file():
        raise MidframeError(f"{results}: no report.html, so this is no finished run")
    if not config.is_file():
        raise MidframeError(f"{config}: no such file")
    check_replaceable(out)
    chosen = [
        path
        for path in sorted(results.rglob("*"))
        if path.is_file() and not _is_left_out(path.relative_to(results))
    ]
    with publish(out) as folder:
        for path in chosen:
            place = folder / "results" / path.relative_to(results)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        shutil.copyfile(config, folder / "config.yaml")
        for path in [WORKFLOW / "Snakefile", *sorted((WORKFLOW / "rules").glob("*.smk"))]:
            place = folder / "workflow" / path.relative_to(WORKFLOW)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        write_manifest(folder, KIND, FORMAT_VERSION, {}, files=len(chosen))
        ended = datetime.fromtimestamp(report.stat().st_mtime, UTC)
        graph = _graph(folder, results.name, ended.isoformat(timespec="seconds"))
        text = json.dumps(graph, indent=1, ensure_ascii=False) + "\n"
        (folder / "ro-crate-metadata.json").write_text(text, encoding="utf-8")
    return len(chosen)


def _is_left_out(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    kept = path.parts[0] == "evaluations" and "predictions" in path.parts
    return hidden or kept or path.parts[0] in LEFT_OUT


def _graph(folder: Path, title: str, ended: str) -> dict[str, Any]:
    """The JSON-LD of the crate."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    entities = [_file(path, folder) for path in files]
    made = [{"@id": one["@id"]} for one in entities if one["@id"].startswith("results/")]
    for one in entities:
        if one["@id"] == SNAKEFILE:
            one["@type"] = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
            one["name"] = "midframe's workflow"
            one["programmingLanguage"] = {"@id": SNAKEMAKE}
            one["input"] = [{"@id": "#configuration"}]
            one["output"] = [{"@id": "#results"}]
        elif one["@id"] == "config.yaml":
            one["exampleOfWork"] = {"@id": "#configuration"}
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"midframe run {title}",
        "description": "A run of midframe's workflow: trained networks, evaluations, tables and "
        "figures of video frame interpolation. Frames and patches are not part of it.",
        "datePublished": ended,
        "license": {"@id": "https://spdx.org/licenses/MIT"},
        "conformsTo": [{"@id": profile} for profile, *_ in PROFILES],
        "hasPart": [{"@id": one["@id"]} for one in entities],
        "mainEntity": {"@id": SNAKEFILE},
        "mentions": [{"@id": "#run"}],
    }
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run {title}",
        "description": "snakemake all, with this configuration",
        "instrument": {"@id": SNAKEFILE},
        "object": [{"@id": "config.yaml"}],
        "result": made,
        "endTime": ended,
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "agent": {"@id": "#snakemake"},
    }
    descriptor = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": [
            {"@id": "https://w3id.org/ro/crate/1.1"},
            {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
        ],
    }
    return {
        "@context": [
            "https://w3id.org/ro/crate/1.1/context",
            "https://w3id.org/ro/terms/workflow-run/context",
        ],
        "@graph": [descriptor, root, run, *entities, *_described()],
    }


def _file(path: Path, folder: Path) -> dict[str, Any]:
    kind, _ = mimetypes.guess_type(path.name)
    return {
        "@id": path.relative_to(folder).as_posix(),
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": kind or "application/octet-stream",
        "sha256": file_digest(path),
    }


def _described() -> list[dict[str, Any]]:
    """What the others refer to: profiles, licence, language, program, and formal parameters."""
    parameter = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
    return [
        *(
            {"@id": profile, "@type": "CreativeWork", "name": name, "version": version}
            for profile, name, version in PROFILES
        ),
        {
            "@id": "https://spdx.org/licenses/MIT",
            "@type": "CreativeWork",
            "name": "MIT License",
            "identifier": "MIT",
        },
        {
            "@id": SNAKEMAKE,
            "@type": "ComputerLanguage",
            "name": "Snakemake",
            "identifier": {"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
            "url": {"@id": "https://snakemake.readthedocs.io"},
            "version": metadata.version("snakemake"),
        },
        {
            "@id": "#snakemake",
            "@type": "SoftwareApplication",
            "name": "Snakemake",
            "version": metadata.version("snakemake"),
            "softwareVersion": metadata.version("snakemake"),
            "url": {"@id": "https://snakemake.readthedocs.io"},
        },
        {
            "@id": "#configuration",
            "@type": "FormalParameter",
            "additionalType": "File",
            "conformsTo": {"@id": parameter},
            "name": "configuration",
            "encodingFormat": "application/yaml",
        },
        {
            "@id": "#results",
            "@type": "FormalParameter",
            "additionalType": "Dataset",
            "conformsTo": {"@id": parameter},
            "name": "results",
        },
    ]
