"""A wrong setting is told by its path, what is allowed, and the nearest known key."""

import os
from pathlib import Path

import pytest

from pipeline.errors import MidframeError
from pipeline.settings import DatasetSettings, MotionSettings, PatchSettings, load


def test_omitted_settings_keep_their_defaults() -> None:
    assert load(MotionSettings, None) == MotionSettings()
    assert load(PatchSettings, '{"seed": 7}') == PatchSettings(seed=7)


def test_settings_are_read_from_yaml_and_json_files(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("patch_size: 128\nmotion_scale: 1e1  # text to YAML\n")
    (tmp_path / "s.json").write_text('{"patch_size": 128, "motion_scale": 10.0}')
    from_yaml = load(PatchSettings, str(tmp_path / "s.yaml"))
    assert from_yaml == load(PatchSettings, str(tmp_path / "s.json"))
    assert from_yaml.motion_scale == 10.0


def test_the_command_line_goes_before_the_file() -> None:
    settings = load(DatasetSettings, '{"source": "folder", "path": "a"}', path="b")
    assert settings.path == "b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"patch_sise": 128}', "patch_sise: unknown key 'patch_sise'; did you mean 'patch_size'?"),
        ('{"zzz": 1}', "zzz: unknown key 'zzz'; known keys: datasets, sequences"),
        ('{"patch_size": "big"}', "patch_size: Input should be a valid integer.*not 'big'"),
        ('{"patch_size": 2}', "patch_size: Input should be greater than or equal to 8, not 2"),
        ('{"statistic": "mean"}', "statistic: Input should be 'mean_magnitude' or 'norm_of_mean'"),
        ('{"part": [0.5, 0.2]}', "part: needs two fractions, 0 <= from < to <= 1"),
        ('{"tries": 5}', r"max_taken: at most tries \(5\) windows can be taken, not 20"),
        ('{"a": ', "--settings: not valid YAML or JSON"),
        (r'{"sequences": ["\ud800"]}', r"'\\ud800' behind '.*\"sequences\": \[\"' is no character"),
        (r'{"\ud800": 1}', r"unknown key '\\ud800'"),
    ],
)
def test_a_wrong_setting_is_explained(text: str, said: str) -> None:
    with pytest.raises(MidframeError, match=said):
        load(PatchSettings, text)


def test_a_name_that_is_not_utf_8_is_a_name() -> None:
    path = os.fsdecode(b"b\xff")
    assert load(DatasetSettings, '{"source": "folder"}', path=path).path == path


def test_every_wrong_key_has_a_line_of_its_own() -> None:
    with pytest.raises(MidframeError) as caught:
        load(PatchSettings, '{"patch_size": 2, "motion_scale": -1}')
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match=r"none\.yaml: cannot read settings"):
        load(PatchSettings, str(tmp_path / "none.yaml"))
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(MidframeError, match="must be a mapping"):
        load(PatchSettings, str(tmp_path / "list.yaml"))


@pytest.mark.parametrize(
    "given",
    [
        {"source": "folder"},
        {"source": "sample-clips", "path": "x"},
        {"source": "youtube"},
        {"source": "folder", "path": "x", "address": "https://example.org"},
    ],
)
def test_a_dataset_needs_what_its_source_needs_and_nothing_else(given: dict[str, str]) -> None:
    with pytest.raises(MidframeError, match="source '"):
        load(DatasetSettings, None, **given)
