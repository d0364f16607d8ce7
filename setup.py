"""Packaging of tvm_prune: metadata, the compiler's exact versions, bounds for everything else.

The exact versions that were tested together are in constraints.txt; `make` installs with them.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "([^"]+)"$', (ROOT / "tvm_prune/__init__.py").read_text(), re.MULTILINE).group(1)

REQUIRES = [
    # apache-tvm asks for any newer ffi, but with 0.1.15 every tuning run and every save of a record crashes.
    "apache-tvm==0.27.0.post1",
    "apache-tvm-ffi==0.1.14.post1",
    "cloudpickle>=3.0",
    "lightning>=2.6,<3",
    "matplotlib>=3.9,<4",
    "numpy>=2.0,<3",
    "onnx>=1.19,<2",
    "onnxscript>=0.6,<1",
    "pillow>=11",
    "psutil>=6",
    "pydantic>=2.10,<3",
    "rich>=13.8",
    "safetensors>=0.5,<1",
    "scikit-learn>=1.6,<2",
    "scipy>=1.11,<2",
    "torch>=2.13,<3",
    "torch-pruning>=1.6.1,<2",
    "tornado>=6.4",
    "typer>=0.16",
]
BENCH = ["onnxruntime>=1.24,<2"]
DEV = [
    "hypothesis>=6.120",
    "mypy>=2.0,<3",
    "pytest>=9.0,<10",
    "pytest-timeout>=2.4,<3",
    "pytest-xdist>=3.8,<4",
    "ruff>=0.17,<0.18",
    *BENCH,
]

setup(
    name="tvm-prune",
    version=VERSION,
    description="Prune, compress and tune a network by what it costs once compiled on the device it will run on",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["tvm_prune", "tvm_prune.*", "relay_passes", "relay_passes.*"]),
    package_data={"tvm_prune": ["py.typed"], "tvm_prune.oracle": ["launcher.cc"], "relay_passes": ["py.typed"]},
    install_requires=REQUIRES,
    extras_require={"bench": BENCH, "dev": DEV},
    entry_points={"console_scripts": ["tvm-prune=tvm_prune.cli:main"]},
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Compilers",
    ],
)
