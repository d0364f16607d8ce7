"""The picture of sensitivities shows every layer and format."""

from pathlib import Path

from PIL import Image

from tvm_prune.report.sensitivity_plot import plot_sensitivities
from tvm_prune.search.sensitivity import Sensitivity


def sensitivity(layer: str, name: str, kl: float) -> Sensitivity:
    return Sensitivity(layer=layer, format=name, kl=kl, correct=9, float_correct=9, total=10)


def test_it_grows_with_the_layers(tmp_path: Path) -> None:
    heights = []
    for count in (3, 30):
        found = [sensitivity(f"layer{n}", name, 10.0**-n) for n in range(count) for name in ("int8", "w4a8")]
        plot_sensitivities(tmp_path / "plot.png", found)
        with Image.open(tmp_path / "plot.png") as image:
            heights.append(image.size[1])
    assert heights[1] > 2 * heights[0]


def test_a_network_without_layers_has_an_empty_picture(tmp_path: Path) -> None:
    plot_sensitivities(tmp_path / "plot.png", [])
    assert (tmp_path / "plot.png").stat().st_size > 0
