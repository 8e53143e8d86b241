"""Growth of time and memory: which networks are measured, what is expected of them, and a run with a small one."""

import json
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import growth  # noqa: E402


def test_each_axis_varies_one_thing():
    options = growth.parse(["folder", "--steps", "1", "20", "--size", "--objects", "3", "--base", "10", "64", "128"])
    axes = growth.points(options)
    assert list(axes) == ["steps", "hidden_size", "batch", "objects"]
    assert [(point.steps, point.hidden_size, point.size) for point in axes["steps"]] == [(1, 64, 128), (20, 64, 128)]
    (objects,) = axes["objects"]
    assert (objects.objects, objects.steps, objects.name) == (3, 10, "resnet50_t10_d64_128_loop")
    assert {point.name for point in axes["batch"]} == {"resnet50_t10_d64_128"}


def test_the_expected_time_is_proportional_to_the_work():
    found = [growth.Point(encoder="resnet50", steps=steps) for steps in (1, 2, 4)]
    rows = {point: {"median_ms": time} for point, time in zip(found, (9.0, 10.0, 16.0), strict=True)}
    work = {point: 100 * (1 + point.steps) for point in found}
    assert growth.expectation(found, rows, work) == pytest.approx([6.4, 9.6, 16])


@pytest.mark.slow
def test_a_small_network_is_measured(tmp_path, capsys):
    growth.main(
        f"{tmp_path} --encoder resnet34 --base 3 16 64 --steps 1 3 --hidden-size --size --batch 1 2 --objects 0 1 "
        "--repeat 1 --rounds 1".split()
    )
    rows = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))["rows"]
    assert all("error" not in row for row in rows), rows
    lines = [line.split(" | ") for line in (tmp_path / "growth.md").read_text(encoding="utf-8").splitlines()[2:]]
    work = {(line[0].strip("| "), line[1]): float(line[2]) for line in lines}
    assert len(work) == 6
    assert work["batch size B", "2"] == pytest.approx(2 * work["batch size B", "1"], abs=0.011)
    assert work["objects in the image", "0"] == work["steps T", "1"]
    assert work["objects in the image", "1"] <= work["steps T", "3"]
    assert (tmp_path / "growth.png").stat().st_size > 5000
    assert "| steps T | 3 |" in capsys.readouterr().out
