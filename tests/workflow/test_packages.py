"""What is installed is what the lock file lists, file for file."""

import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT
from workflow import packages
from workflow.packages import (
    audit,
    check_build,
    digest,
    entries,
    for_cuda,
    install_entries,
    version,
    write_sbom,
)

LOCK = ROOT / "requirements.lock"
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?: \\)?$", re.MULTILINE)


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    return entries(LOCK.read_text())


def wheel(folder: Path, name: str = "thing", version: str = "1.0") -> Path:
    """A wheel with one module, which holds nothing."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version.replace('-', '_')}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return file


def test_every_package_of_the_lock_has_one_version_and_its_hashes(locked: dict[str, str]) -> None:
    assert len(locked) > 150
    for name, entry in locked.items():
        assert len(re.findall(r"^\S+==\S", entry, re.MULTILINE)) == 1, name
        assert HASH.search(entry), name


def test_what_only_linux_needs_is_what_torchs_cuda_builds_need(locked: dict[str, str]) -> None:
    for name, entry in locked.items():
        assert for_cuda(entry) == name.startswith(("nvidia-", "cuda-", "triton")), name


def test_the_builds_of_torch_that_the_lock_names_are_listed(locked: dict[str, str]) -> None:
    named = re.findall(r"^# +torch-([\d.]+)\+\S+\.whl sha256:(\S+)$", LOCK.read_text(), re.M)
    assert named
    for number, hashed in named:
        assert number == version(locked["torch"])
        assert hashed in HASH.findall(locked["torch"])


def test_a_build_of_torch_that_is_not_listed_is_refused(
    tmp_path: Path, locked: dict[str, str]
) -> None:
    other = wheel(tmp_path, "torch", f"{version(locked['torch'])}+other")
    with pytest.raises(SystemExit, match=r"\+other.*does not list the hash of this build"):
        check_build(other, locked["torch"])
    check_build(other, f"torch==1 --hash=sha256:{digest(other)}")


def test_a_file_with_another_hash_than_that_of_the_lock_is_not_installed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = ["--no-index", f"--find-links={tmp_path}", f"--target={tmp_path / 'installed'}"]
    right = digest(wheel(tmp_path))
    wrong = right[::-1]
    with pytest.raises(subprocess.CalledProcessError):
        install_entries([f"thing==1.0 --hash=sha256:{wrong}\n"], tmp_path, *place)
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert not (tmp_path / "installed/thing.py").exists()
    install_entries([f"thing==1.0 --hash=sha256:{right}\n"], tmp_path, *place)
    assert (tmp_path / "installed/thing.py").exists()


def test_a_package_without_a_hash_is_not_installed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wheel(tmp_path)
    place = ["--no-index", f"--find-links={tmp_path}", f"--target={tmp_path / 'installed'}"]
    with pytest.raises(subprocess.CalledProcessError):
        install_entries(["thing==1.0\n"], tmp_path, *place)
    assert "Hashes are required" in capfd.readouterr().err


def test_the_bill_of_materials_has_all_packages_with_their_hashes(
    tmp_path: Path, locked: dict[str, str]
) -> None:
    part_of_the_lock = {name: locked[name] for name in [*locked][::10]}
    (tmp_path / "some.lock").write_text("".join(part_of_the_lock.values()))
    write_sbom(tmp_path / "some.lock", tmp_path / "new/sbom.json")
    bill = json.loads((tmp_path / "new/sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "midframe"
    listed = {
        (re.sub(r"[-_.]+", "-", part["name"]).lower(), part["version"]): {
            hashed["content"]
            for reference in part["externalReferences"]
            for hashed in reference.get("hashes", [])
        }
        for part in bill["components"]
    }
    assert listed == {
        (name, version(entry)): set(HASH.findall(entry)) for name, entry in part_of_the_lock.items()
    }


def test_an_audit_that_gets_no_answer_says_that_nothing_was_audited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages, "VULNERABILITIES", "http://127.0.0.1:9")
    with pytest.raises(SystemExit, match="nothing was audited"):
        audit(LOCK)
