"""Folders of records joined, thinned out and handed on: nothing that is known gets lost on the way."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tvm.s_tir.meta_schedule.database import JSONDatabase

from tests.oracle.kernels import TARGET
from tests.oracle.test_records import TUNING, WORKLOADS, conv, dense, filled, opened
from tvm_prune.errors import RecordsError
from tvm_prune.files import write_atomically
from tvm_prune.oracle.record_folders import Holding, export_best, holdings, merge, prune
from tvm_prune.oracle.record_units import read_units, write_units
from tvm_prune.oracle.records import FAILED_S, Records
from tvm_prune.oracle.spaces import SPACES

HERE = f"llvm, {TARGET.to_tvm().export()['mtriple']}, 2 threads"


def of_conv(folder: Path, *seconds: float) -> Path:
    """Write the first programs of the convolution with these seconds."""
    records = Records(folder, TARGET)
    found, kept = conv()
    records.commit(found.key, found.workload_json, [(kept[number], [value]) for number, value in enumerate(seconds)])
    records.close()
    return folder


def filled_for_two_targets(folder: Path) -> None:
    """Write the same programs for this machine and for a Skylake."""
    filled(folder)
    lines = [json.loads(line) for line in (folder / TUNING).read_text().splitlines()]
    for line in lines:
        line[1][2]["mcpu"] = "skylake"
    with open(folder / TUNING, "a") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def counts(folder: Path) -> dict[str, tuple[int, int]]:
    return {f"{item.target}/{item.space}": (item.kernels, item.programs) for item in holdings(folder)}


def best_s(folder: Path, kernel: Any) -> float:
    best = opened(folder).best(kernel.key)
    assert best is not None
    return best.program.latency_s


def conv_is_parallel(folder: Path) -> bool:
    return all(program.parallel > 1 for program in opened(folder).programs(conv()[0].key))


def test_a_folder_tells_what_it_holds_by_target_and_space(tmp_path: Path) -> None:
    filled_for_two_targets(tmp_path)
    assert holdings(tmp_path)[0] == Holding(
        target=HERE, space="dense", space_version=SPACES["dense"], current=True, kernels=1, programs=2
    )
    assert counts(tmp_path) == {
        f"{HERE}/dense": (1, 2),
        f"{HERE}/direct_conv": (1, 3),
        HERE.replace("llvm", "skylake") + "/dense": (1, 2),
        HERE.replace("llvm", "skylake") + "/direct_conv": (1, 3),
    }


def test_a_folder_without_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"holds no tuning records \(database_tuning_record.json is missing\)"):
        holdings(tmp_path)


def test_merging_adds_what_is_new_and_only_that(tmp_path: Path) -> None:
    one, two, three = tmp_path / "one", tmp_path / "two", tmp_path / "three"
    of_conv(one, 3e-6)
    filled(two)
    of_conv(three, 9e-6, 0.5e-6)
    assert merge(one, [two, three]) == 4, "two more programs of the convolution, two of the product"
    assert counts(one) == {f"{HERE}/dense": (1, 2), f"{HERE}/direct_conv": (1, 3)}
    assert best_s(one, conv()[0]) == 1e-6, "what is known already keeps its time"
    assert merge(one, [two, three]) == 0
    assert len(JSONDatabase(str(one / WORKLOADS), str(one / TUNING), allow_missing=False)) == 5


def test_merging_makes_a_folder_where_there_is_none(tmp_path: Path) -> None:
    filled(tmp_path / "from")
    assert merge(tmp_path / "to", [tmp_path / "from"]) == 5
    assert best_s(tmp_path / "to", dense()[0]) == 5e-6


def test_merging_leaves_lines_that_it_cannot_read_for_the_tuner(tmp_path: Path) -> None:
    one, two = of_conv(tmp_path / "one", 3e-6), tmp_path / "two"
    filled(two)
    with open(one / TUNING, "a") as file:
        file.write('[0, "torn')
    assert merge(one, [two]) == 4
    assert '[0, "torn' in (one / TUNING).read_text().splitlines()
    records = opened(one)
    assert (records.quarantined, len(records)) == (1, 2)


def begun(folder: Path, *, parallel_s: float, serial_s: float) -> Path:
    """Say what the canary took when `folder` was begun."""
    folder.mkdir(exist_ok=True)
    write_units(folder, {f"{TARGET} canary": parallel_s, f"{TARGET} canary_serial": serial_s})
    return folder


def test_merged_seconds_are_in_the_unit_of_the_folder_they_go_to(tmp_path: Path) -> None:
    one = of_conv(begun(tmp_path / "one", parallel_s=2e-5, serial_s=9e-5), 4e-6)
    two = of_conv(begun(tmp_path / "two", parallel_s=4e-5, serial_s=9e-5), 8e-6, 4e-6, FAILED_S)
    assert conv_is_parallel(two)
    merge(one, [two])
    assert best_s(one, conv()[0]) == pytest.approx(2e-6), "the machine was half as fast there"
    assert len(opened(one).failed(conv()[0].key)) == 1, "what failed has no time to change"


def test_a_folder_without_a_unit_takes_over_that_of_the_first_source(tmp_path: Path) -> None:
    two = of_conv(begun(tmp_path / "two", parallel_s=4e-5, serial_s=9e-5), 8e-6)
    three = of_conv(begun(tmp_path / "three", parallel_s=1e-5, serial_s=9e-5), 8e-6, 1e-6)
    merge(tmp_path / "one", [two, three])
    assert read_units(tmp_path / "one") == {f"{TARGET} canary": 4e-5}
    assert best_s(tmp_path / "one", conv()[0]) == pytest.approx(4e-6)


def test_a_folder_whose_records_have_no_unit_takes_over_none(tmp_path: Path) -> None:
    one = of_conv(tmp_path / "one", 8e-6)
    two = of_conv(begun(tmp_path / "two", parallel_s=4e-5, serial_s=9e-5), 8e-6, 1e-6)
    merge(one, [two])
    assert read_units(one) == {}
    assert best_s(one, conv()[0]) == 1e-6


def test_what_is_exported_keeps_its_unit(tmp_path: Path) -> None:
    of_conv(begun(tmp_path / "all", parallel_s=4e-5, serial_s=9e-5), 8e-6)
    export_best(tmp_path / "all", tmp_path / "best")
    assert read_units(tmp_path / "best") == read_units(tmp_path / "all")


def test_pruning_keeps_the_fastest_of_each_kernel_and_target(tmp_path: Path) -> None:
    filled_for_two_targets(tmp_path)
    assert prune(tmp_path, keep=1) == 6
    assert set(counts(tmp_path).values()) == {(1, 1)}
    assert best_s(tmp_path, conv()[0]) == 1e-6
    assert prune(tmp_path, keep=1) == 0


def test_pruning_drops_programs_of_another_space_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    monkeypatch.setitem(SPACES, "dense", 99)
    assert [item.current for item in holdings(tmp_path)] == [False, True]
    assert prune(tmp_path, keep=9) == 2
    texts = (tmp_path / WORKLOADS).read_text().splitlines()
    assert texts[1] == "[null, null]", "a workload without records is blanked, the others keep their places"
    assert json.loads(texts[0])[0] == conv()[0].key


def test_a_kill_between_the_two_files_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)

    def killed(path: Path, content: str) -> None:
        write_atomically(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr("tvm_prune.oracle.record_folders.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(tmp_path, keep=1)
    assert best_s(tmp_path, conv()[0]) == 1e-6
    assert best_s(tmp_path, dense()[0]) == 5e-6


def test_keeping_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="keep at least 1 program of each kernel, not 0"):
        prune(tmp_path, keep=0)


def test_the_best_are_exported_to_a_new_folder(tmp_path: Path) -> None:
    filled(tmp_path / "all")
    assert export_best(tmp_path / "all", tmp_path / "best") == 2
    assert best_s(tmp_path / "best", conv()[0]) == 1e-6
    assert len((tmp_path / "best" / TUNING).read_text().splitlines()) == 2
    with pytest.raises(RecordsError, match="holds records already; export to a new folder, or merge into it"):
        export_best(tmp_path / "all", tmp_path / "best")


@pytest.mark.parametrize("change", [lambda folder: merge(folder, [folder]), lambda folder: prune(folder, keep=1)])
def test_a_folder_that_another_process_writes_is_left_alone(tmp_path: Path, change: Any) -> None:
    filled(tmp_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        held = Records(tmp_path, TARGET)
        os.write(writer, b"x")
        signal.pause()
        held.close()
        os._exit(0)
    try:
        os.read(reader, 1)
        with pytest.raises(RecordsError, match=f"being written by process {child}"):
            change(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
