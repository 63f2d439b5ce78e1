"""RO-Crates of a run: read by the RO-Crate library, and held against what the profile demands."""

import json
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from model.sharing.crate import write_crate
from pipeline.errors import MidframeError
from pipeline.provenance import file_digest


@pytest.fixture
def crate(tmp_path: Path) -> Path:
    results = tmp_path / "demo"
    for name in (
        "report.html",
        "tables/scores/table.md",
        "models/l1/weights/epoch-0001.safetensors",
        "datasets/clips/clip.mp4",
        "evaluations/held-out/l1/predictions/ride/00000-truth.png",
        "evaluations/held-out/l1/scores.csv",
        ".hidden",
    ):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(name)
    (tmp_path / "config.yaml").write_text("results: demo\n")
    assert write_crate(results, tmp_path / "config.yaml", tmp_path / "crate") == 4
    return tmp_path / "crate"


def test_the_library_reads_the_workflow_and_its_run(crate: Path) -> None:
    read = ROCrate(crate)
    assert read.mainEntity.id == "workflow/Snakefile"
    assert "ComputationalWorkflow" in read.mainEntity.type
    run = read.dereference("#run")
    assert run["instrument"].id == read.mainEntity.id
    assert {one.id for one in run["object"]} == {"config.yaml"}
    assert "results/tables/scores/table.md" in {one.id for one in run["result"]}
    names = {one.id for one in read.root_dataset["conformsTo"]}
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in names


def test_every_file_is_described_with_its_digest(crate: Path) -> None:
    graph = json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]
    described = {one["@id"]: one for one in graph if "sha256" in one}
    files = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    assert described.keys() == files - {"ro-crate-metadata.json"}
    for name, one in described.items():
        assert one["sha256"] == file_digest(crate / name)


def test_every_reference_leads_somewhere(crate: Path) -> None:
    graph = json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]
    known = {one["@id"] for one in graph}

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            return [value["@id"]] if set(value) == {"@id"} else []
        return (
            [name for one in value for name in references(one)] if isinstance(value, list) else []
        )

    found = {name for one in graph for value in one.values() for name in references(value)}
    assert {name for name in found - known if not name.startswith(("http:", "https:"))} == set()
    assert len(known) == len(graph)


def test_frames_and_predictions_are_not_passed_on(crate: Path) -> None:
    names = {path.name for path in crate.rglob("*")}
    assert not names & {"clip.mp4", "00000-truth.png", ".hidden"}
    assert "scores.csv" in names


@pytest.mark.filterwarnings("ignore")  # of the validator's own dependencies
def test_the_validator_of_the_profiles_finds_no_fault(crate: Path) -> None:
    """Where the validator is installed; its contexts come from the library, not the network."""
    services = pytest.importorskip("rocrate_validator.services")
    from importlib import resources

    context = json.loads((resources.files("rocrate") / "data/ro-crate.jsonld").read_text())
    terms = {
        "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
        # The library's copy is of a later version, which has moved these.
        "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
        "FormalParameter": "https://bioschemas.org/FormalParameter",
    }
    path = crate / "ro-crate-metadata.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "@context": {**context["@context"], **terms}}))
    settings = {
        "rocrate_uri": str(crate),
        "profile_identifier": "workflow-run-crate-0.5",
        "offline": True,
    }
    result = services.validate(settings)
    assert [issue.message for issue in result.get_issues()] == []


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    with pytest.raises(MidframeError, match="no finished run"):
        write_crate(tmp_path / "demo", tmp_path / "config.yaml", tmp_path / "crate")
