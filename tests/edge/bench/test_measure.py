"""Laws of a measurement: every signature is timed, in its own process, or the error is told."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge.bench import chart, cpu
from edge.bench.measure import Measured, measure
from edge.errors import EdgeError
from edge.runner import EdgeRunner


@pytest.fixture(scope="module")
def found(bundle: Path) -> Measured:
    return measure(bundle, [1, 2], 50)


def test_every_signature_is_timed_with_every_number_of_threads(
    found: Measured, bundle: Path
) -> None:
    signatures = EdgeRunner.open(bundle).manifest.signatures
    timed = {(each.signature, each.threads) for each in found.timings}
    assert timed == {(name, threads) for name in signatures for threads in (1, 2)}
    assert all(0 < each.p50_ms <= each.p95_ms for each in found.timings)
    assert {each.runs for each in found.timings} == {50}


def test_size_load_and_memory_are_real(found: Measured, bundle: Path) -> None:
    assert found.file_bytes == bundle.stat().st_size
    assert 0 < found.load_ms < 60_000
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found.file_bytes < found.peak_rss_bytes < machine  # of all tests in this process
    assert found.operators > 0
    assert found.profile == "dynamic_int8"


def test_examples_fill_their_signature(bundle: Path) -> None:
    runner = EdgeRunner.open(bundle)
    for name, tensors in runner.examples().items():
        assert tensors["attention_mask"].all()
        assert f"tokens_{tensors['input_ids'].shape[1]}" == name


def test_a_bundle_that_does_not_run_says_why(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(EdgeError, match=r"x\.zip: not a readable zip"):
        measure(path, [1], 50)


def test_the_picture_shows_every_bundle_to_scale(found: Measured) -> None:
    slow = replace(
        found,
        profile="float32",
        file_bytes=4 * found.file_bytes,
        timings=tuple(replace(each, p50_ms=2 * each.p50_ms) for each in found.timings),
    )
    svg = ET.fromstring(chart.draw([found, slow]))  # noqa: S314 (our own)
    bars = svg.findall("{http://www.w3.org/2000/svg}rect")
    times = [int(bar.attrib["width"]) for bar in bars if bar.attrib["class"] == "time"]
    sizes = [int(bar.attrib["width"]) for bar in bars if bar.attrib["class"] == "size"]
    assert times == [150, 300]
    assert sizes == [75, 300]


def test_a_name_can_t_break_the_picture(found: Measured) -> None:
    ET.fromstring(chart.draw([replace(found, model="<&>")]))  # noqa: S314 (our own)


def test_the_processor_is_named() -> None:
    machine = cpu.find()
    assert machine.name
    assert machine.cores >= 1


def test_figures_survive_json(found: Measured) -> None:
    assert msgspec.json.decode(msgspec.json.encode(found), type=Measured) == found
