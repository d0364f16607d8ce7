"""Pictures of text, drawn: what page and line readers look at, without a download."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

__all__ = ["lines", "pages"]

_WORDS = (
    "the network is pruned where its programs are slow and kept where they are fast every figure is measured on the "
    "compiled module tuned tasks tell what a channel costs 2026 invoice total 1,204.50 page 7 of 12 section 3.1 table"
).split()
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _text(generator: np.random.Generator, words: int) -> str:
    return " ".join(generator.choice(_WORDS, words))


def _tensor(image: Image.Image, mean: Sequence[float], deviation: Sequence[float]) -> torch.Tensor:
    values = torch.from_numpy(np.asarray(image.convert("RGB"), "float32") / 255).permute(2, 0, 1)
    return (values - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]


def pages(count: int, *, size: int = 224, turned: bool = True, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `count` pages [N, 3, size, size] and by how many quarter turns (clockwise) each is turned."""
    generator = np.random.default_rng(seed)
    images, turns = [], []
    for _ in range(count):
        page = Image.new("L", (320, 320), int(generator.integers(225, 256)))
        draw = ImageDraw.Draw(page)
        font = ImageFont.load_default(int(generator.integers(12, 22)))
        top = int(generator.integers(4, 24))
        while top < 300:
            draw.text(
                (int(generator.integers(4, 20)), top),
                _text(generator, 7),
                fill=int(generator.integers(0, 70)),
                font=font,
            )
            top += int(generator.integers(20, 32))
        turn = int(generator.integers(4)) if turned else 0
        page = page.rotate(-90 * turn)
        edge = (320 - 280) // 2
        images.append(_tensor(page.crop((edge, edge, edge + 280, edge + 280)).resize((size, size)), _MEAN, _DEVIATION))
        turns.append(turn)
    return torch.stack(images), torch.tensor(turns)


def lines(count: int, *, height: int = 48, width: int = 192, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `count` lines of text [N, 3, height, width] in -1..1, and whether each stands on its head (0 or 1)."""
    generator = np.random.default_rng(seed)
    images, turns = [], []
    for _ in range(count):
        line = Image.new("L", (width, height), int(generator.integers(225, 256)))
        font = ImageFont.load_default(int(generator.integers(20, 32)))
        words = _text(generator, max(2, width // 80))
        ImageDraw.Draw(line).text(
            (4, int(generator.integers(2, 10))), words, fill=int(generator.integers(0, 70)), font=font
        )
        turn = int(generator.integers(2))
        images.append(_tensor(line.rotate(180 * turn), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
        turns.append(turn)
    return torch.stack(images), torch.tensor(turns)
