"""The plugin about skipped tests: what it lists, what it refuses, with and without worker processes."""

import os
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
SUITE = {
    "test_module.py": """
        import pytest
        pytest.importorskip("no_such_package")
        def test_a(): pass
        """,
    "test_single.py": """
        import pytest
        @pytest.fixture
        def program():
            pytest.skip("needs a compiler")
        def test_passes(): pass
        def test_fixture(program): pass
        @pytest.mark.skipif(True, reason="needs Chromium")
        @pytest.mark.parametrize("word", ["a b", "ö"])
        def test_mark(word): pass
        @pytest.mark.skipif(True, reason="needs a GPU with TensorRT")
        def test_hardware(): pass
        @pytest.mark.xfail(reason="not yet")
        def test_expected(): assert False
        """,
}
SKIPPED = [
    "test_module.py",
    "test_single.py::test_fixture",
    "test_single.py::test_mark[\\xf6]",
    "test_single.py::test_mark[a b]",
]


def run_pytest(folder: pathlib.Path, *options: str) -> tuple[int, str]:
    """Runs pytest on a small suite; returns its exit code and its screen."""
    for name, text in SUITE.items():
        lines = text.strip("\n").splitlines()
        (folder / name).write_text("\n".join(line[8:] for line in lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "skips", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(params=[(), ("-n", "2")], ids=["one process", "workers"])
def processes(request) -> tuple[str, ...]:
    """Options that say how many processes run the tests."""
    return request.param


def test_skips_for_software_are_listed_and_taken_again(tmp_path, processes):
    code, screen = run_pytest(tmp_path, "--skipped-to", "out/skipped.txt", *processes)
    assert code == 0, screen
    assert (tmp_path / "out" / "skipped.txt").read_text(encoding="utf-8").splitlines() == SKIPPED
    code, screen = run_pytest(tmp_path, "@out/skipped.txt")
    assert "4 skipped" in screen


def test_a_skip_for_software_is_refused(tmp_path, processes):
    code, screen = run_pytest(tmp_path, "--no-skips", "test_single.py", *processes)
    assert code == 1
    assert "1 passed, 1 skipped, 1 xfailed, 3 errors" in screen
    assert "expected no skip (--no-skips). Received: Skipped: needs a compiler" in screen
    code, screen = run_pytest(tmp_path, "--no-skips", "test_module.py", *processes)
    assert code != 0
    assert "expected no skip (--no-skips). Received: Skipped: could not import 'no_such_package'" in screen


def test_hardware_may_be_missing(tmp_path):
    code, screen = run_pytest(tmp_path, "--no-skips", "test_single.py", "-k", "passes or hardware or expected")
    assert code == 0, screen
