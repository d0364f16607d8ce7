"""The README's Python example runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_readme_has_one_example_of_about_ten_lines() -> None:
    (example,) = EXAMPLE.findall((ROOT / "README.md").read_text())
    assert len([line for line in example.splitlines() if line.strip()]) <= 12


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readme_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = EXAMPLE.findall((ROOT / "README.md").read_text())
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    assert re.search(r"[\d.]+x faster, -?\d+ test images lost", capsys.readouterr().out)
    assert (tmp_path / "runs/lenet5/bundle/run.py").exists()
    assert (tmp_path / "runs/lenet5/report.md").exists()
