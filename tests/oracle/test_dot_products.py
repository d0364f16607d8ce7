"""The table of dot product instructions: what the features of a processor choose from it."""

from tvm_prune.oracle.dot_products import available, kinds


def chosen(architecture: str, widest: int, *features: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(each.kind, each.lanes) for each in available(architecture, widest, set(features).__contains__)]


def test_the_fastest_comes_first() -> None:
    features = ("sse2", "avx2", "avx512bw", "avx512vnni", "avx512vl")
    assert chosen("x86_64", 16, *features) == [("vnni", (16, 8, 4)), ("pmaddwd", (16, 8, 4))]
    assert [kind for kind, _ in chosen("aarch64", 4, "neon", "dotprod", "i8mm")] == ["usdot", "sdot", "smlal"]


def test_lanes_are_those_that_the_features_stand_for_and_the_vectors_hold() -> None:
    assert chosen("x86_64", 16, "sse2", "avx2") == [("pmaddwd", (8, 4))]
    assert chosen("x86_64", 4, "sse2", "avx2") == [("pmaddwd", (4,))]
    assert chosen("x86_64", 8, "avxvnni") == [("vnni", (8, 4))]
    # Without avx512vl the narrower vectors have no such instruction.
    assert chosen("x86_64", 16, "avx512vnni") == [("vnni", (16,))]


def test_features_of_another_architecture_count_for_nothing() -> None:
    assert chosen("arm", 4, "neon", "dotprod") == []
    assert chosen("x86_64", 4, "neon") == []


def test_kinds_have_names_of_their_own() -> None:
    names = [each.kind for each in kinds()]
    assert len(set(names)) == len(names)
    assert all(each.speed > 0 and each.says for each in kinds())
