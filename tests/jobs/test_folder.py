"""The run folder and the seconds kept in it."""

import importlib.metadata
from pathlib import Path

import pytest

from tvm_prune.errors import ConfigError
from tvm_prune.jobs import folder
from tvm_prune.jobs.folder import RunFolder, Stages, package_versions


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_seconds_add_up_over_starts_also_when_a_stage_breaks(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    with Stages(path, clock=Clock()).timed("train"):
        pass
    with pytest.raises(KeyboardInterrupt), Stages(path, clock=Clock()).timed("train"):
        raise KeyboardInterrupt
    with Stages(path, clock=Clock()).timed("test"):
        pass
    assert Stages(path).seconds() == {"train": 2.0, "test": 1.0}


@pytest.mark.parametrize("content", ["{", "[]", '{"train": "long"}'])
def test_damaged_seconds_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stages.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"stages\.json is damaged"):
        Stages(path).seconds()


def test_every_file_of_a_run_has_a_place_of_its_own(tmp_path: Path) -> None:
    names = [name for name, value in vars(RunFolder).items() if isinstance(value, property)]
    places = [getattr(RunFolder(tmp_path), name) for name in names]
    assert len(set(places)) == len(places) > 10
    assert all(place.parent == tmp_path for place in places)


def test_a_package_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "PACKAGES", ("torch", "no-such-package"))
    assert package_versions() == {"torch": importlib.metadata.version("torch"), "no-such-package": "absent"}
