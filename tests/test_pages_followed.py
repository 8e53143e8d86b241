"""A reader follows the pages: every block of code of a page runs, in order, in an empty folder.

The data are an export in CVAT's format (`tests/data/label_tools.py` names its source). `CHANGED` and `NOT_RUN` list all
differences between a page and what runs here.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
import re
import shlex
import sys
from collections.abc import Callable

import documents
import pytest
from PIL import Image, ImageDraw

sys.path.insert(0, str(pathlib.Path(__file__).parent / "data"))

import label_tools

PAGES = documents.ROOT / "docs"

NOT_RUN = {
    "python3 -m venv .venv": "downloads packages; .ci/run runs such a line of the README",
}
"""Beginning of a line of a shell block → why it is not run."""

CHANGED = {
    "rsis train --dataset shapes": "--epochs 1 --train-size 16 --val-size 4",
    "rsis train --dataset coco --data export --val-share 0.2 --out": "--encoder compact --encoder-weights none "
    "--image-size 64 --steps 3 --max-objects 3 --epochs 1",
}
"""Beginning of a line of a shell block → options that are added: the same command in seconds and without a download."""


def export_of_a_label_tool(folder: pathlib.Path) -> None:
    """Writes `export`, CVAT's COCO 1.0 with images in which the objects can be seen, and `photos`."""
    label_tools.cvat(folder / "export", count=5)
    for path in sorted((folder / "export/images/default").glob("*.png")):
        draw_image(path)
    (folder / "photos").mkdir()
    draw_image(folder / "photos/new.png")


def draw_image(path: pathlib.Path) -> None:
    image = Image.new("RGB", (label_tools.WIDTH, label_tools.HEIGHT), (40, 40, 40))
    draw = ImageDraw.Draw(image)
    draw.polygon(label_tools.LARGE, fill=(230, 60, 60))
    draw.polygon(label_tools.SMALL, fill=(60, 220, 60))
    image.save(path)


@dataclasses.dataclass(frozen=True)
class Followed:
    """What ran: the lines of shell blocks, what they printed, and the number of Python blocks."""

    lines: list[str]
    screen: str
    python: int


def follow(page: pathlib.Path, root: pathlib.Path = documents.ROOT) -> Followed:
    """Runs the blocks of a page in the current folder; a command that fails fails the test."""
    lines, screen, python = [], io.StringIO(), 0
    names: dict[str, object] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        for block in documents.blocks(page, root):
            assert block.language in ("sh", "python"), f"{block.place}: {block.language}"
            if block.language == "python":
                exec(compile(block.code, block.place, "exec"), names)
                python += 1
                continue
            for line in filter(None, map(str.strip, block.code.splitlines())):
                if not any(line.startswith(beginning) for beginning in NOT_RUN):
                    run(line, block.place, screen)
                    lines.append(line)
    return Followed(lines, screen.getvalue(), python)


def run(line: str, place: str, screen: io.StringIO) -> None:
    from rsis_tf.cli.main import main

    words = shlex.split(line, comments=True)
    for beginning, added in CHANGED.items():
        if line.startswith(beginning):
            words += added.split()
    assert words[0] == "rsis", f"{place}: expected a command of this project. Received: {line}"
    code: object = 0
    try:
        main(words[1:])
    except SystemExit as end:
        code = end.code
    assert not code, f"{place}: {line}\n{screen.getvalue()[-3000:]}"


def every_line(page: pathlib.Path) -> str:
    return "\n".join(block.code for block in documents.blocks(page))


def test_every_difference_is_used():
    text = every_line(PAGES / "own-data.md") + every_line(PAGES / "index.md")
    for beginning in (*NOT_RUN, *CHANGED):
        assert re.search(rf"^{re.escape(beginning)}", text, re.MULTILINE), beginning


def test_a_block_that_would_not_run_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\ncurl example.org\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="expected a command"):
        follow(page, tmp_path)
    page.write_text("```console\nrsis --version\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="console"):
        follow(page, tmp_path)


@pytest.fixture
def follow_in(tmp_path, monkeypatch) -> Callable[[str], Followed]:
    """Returns a function that follows a page of docs/ in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda page: follow(PAGES / page)


@pytest.mark.slow
def test_five_minutes(follow_in, tmp_path):
    followed = follow_in("index.md")
    assert followed.python == 1
    assert (tmp_path / "found/counts.csv").is_file()


@pytest.mark.slow
def test_from_a_label_tool_to_a_deployed_model(follow_in, tmp_path):
    export_of_a_label_tool(tmp_path)
    followed = follow_in("own-data.md")
    assert followed.python == 1
    assert {line.split()[1] for line in followed.lines} >= {
        "check",
        "train",
        "evaluate",
        "export",
        "predict",
        "serving",
    }
    for result in (
        "truth.png",
        "runs/cells/best.keras",
        "runs/cells/report.html",
        "runs/cells/model.onnx",
        "runs/cells/model.tflite",
        "found/new_labels.png",
        "found/new_overlay.png",
        "models/cells/1/model.onnx",
        "models/cells/config.pbtxt",
        "new.geojson",
    ):
        assert (tmp_path / result).is_file(), result
    assert any((tmp_path / "overlays").iterdir())
    categories = json.loads((tmp_path / "found/instances.json").read_text(encoding="utf-8"))["categories"]
    assert [category["name"] for category in categories] == ["cell", "debris"]
