"""The benchmark of the end of a pass runs with autotuning and without."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import end_of_epoch


def test_it_prints_a_row_for_each_length(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["end_of_epoch.py", "--seconds", "0.1", "--repeat", "2"])
    end_of_epoch.main()
    head, row = capsys.readouterr().out.splitlines()
    assert "autotuning" in head
    seconds, *ends = row.split()
    assert seconds == "0.1"
    assert len(ends) == 4
