"""The trained network and the data set that a benchmark is about: its options, and what they load."""

import argparse
from pathlib import Path

from tvm_prune.errors import DataError
from tvm_prune.models.datasets import DataSet, load_data
from tvm_prune.models.load import Model, load_model

__all__ = ["add_options", "trained_model", "wanted_data"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --model, --weights, --data and --data-dir."""
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", type=Path, required=True, help="trained weights (safetensors)")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path, help="folder of the data set")


def wanted_data(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> DataSet:
    """Return the data set asked for; without it the process ends with the parser's error."""
    try:
        return load_data(arguments.data, data_dir=arguments.data_dir)
    except DataError as error:
        parser.error(str(error))


def trained_model(arguments: argparse.Namespace, data: DataSet) -> Model:
    """Return the network asked for with its weights."""
    return load_model(arguments.model, weights=arguments.weights, num_classes=data.num_classes)
