"""The documents keep their word: commands, options, paths and links exist, and the code blocks of the README run."""

import contextlib
import functools
import importlib.util
import io
import json
import os
import pathlib
import re
import shlex

import documents
import numpy as np
import pytest
from PIL import Image

ROOT = documents.ROOT
README = ROOT / "README.md"

OTHER_PROGRAMS = {
    "--host",  # tensorboard
    "--dry-run",  # pip
    *("--no-skips", "--strict-markers", "--hypothesis-seed"),  # pytest
    "--polygons",  # examples/ray_batch.py
}
"""Options in the text that belong to no command of this project."""

EARLIER_SPELLINGS = {"--maxseqlen", "--gt-maxseqlen"}
"""Options that are accepted but not listed by `--help`."""

FORMATS = ("onnx", "saved_model", "tflite")


def call(*words: str) -> tuple[int, str]:
    """Calls `rsis` in this process; returns its exit code and what it printed."""
    from rsis_tf.cli.main import main

    screen = io.StringIO()
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        try:
            main(list(words))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return code, screen.getvalue()


@functools.cache
def help_of(*command: str) -> str:
    code, text = call(*command, "--help")
    assert code == 0, text
    return text


@functools.cache
def command_names() -> tuple[str, ...]:
    return tuple(re.findall(r"^  (\w+) {2,}", help_of(), re.MULTILINE))


def options_of(*command: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z0-9-]*", help_of(*command)))


def problems(words: list[str]) -> list[str]:
    """Returns what is wrong with the words of a command line of `rsis` (its first word), values aside."""
    if len(words) > 1 and words[1] in ("--help", "--version"):
        return []
    name = words[1] if len(words) > 1 else ""
    if name not in command_names():
        return [f"no command {name}"]
    command = [name]
    if name == "export" and len(words) > 2:
        if words[2] not in (*FORMATS, "FORMAT"):
            return [f"no export format {words[2]}"]
        command.append("onnx" if words[2] == "FORMAT" else words[2])
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    return [
        f"{' '.join(command)} has no option {option}" for option in sorted(used - options_of(*command) - {"--help"})
    ]


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_and_their_options_exist(path):
    found = []
    lines = [(place, words) for place, words in documents.commands(path)]
    lines += [(f"{path.name}:{n}", shlex.split(span)) for n, span in documents.spans(path) if span.startswith("rsis ")]
    for place, words in lines:
        words = [*(["rsis"] if words[:2] == ["python", "train.py"] else []), *words]
        for start in [number for number, word in enumerate(words) if word == "rsis"]:
            # In `rsis a | b` and `rsis a|b` the alternatives are commands, too.
            found += [f"{place}: {problem}" for problem in problems(words[start:])]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_options_in_the_text_are_those_of_some_command(path):
    known = {option for name in command_names() for option in options_of(name)}
    known |= {option for name in FORMATS for option in options_of("export", name)}
    known |= OTHER_PROGRAMS | EARLIER_SPELLINGS | {"--version"}
    # Spans that begin with another program are left out, and so are flags of the original: they have underscores.
    ours = [(number, span) for number, span in documents.spans(path) if span.startswith(("--", "rsis "))]
    used = [(number, word) for number, span in ours for word in re.findall(r"(?<!\S)--[\w-]+", span) if "_" not in word]
    assert [f"{path.name}:{number}: {word}" for number, word in used if word not in known] == []


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(path):
    texts = [span for _, span in documents.spans(path)] + [block.code for block in documents.blocks(path)]
    pattern = r"(?<![\w/.-])(?:rsis_tf|export|tests|docs|benchmarks|\.ci|\.github)/[\w./-]*\w"
    named = {name for text in texts for name in re.findall(pattern, text)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    broken = []
    for number, target in documents.links(path):
        file, _, anchor = target.partition("#")
        place = path.parent / file if file else path
        if not place.exists() or (anchor and anchor not in documents.anchors(place)):
            broken.append(f"{path.name}:{number}: {target}")
    assert broken == []


def test_modules_in_the_text_can_be_found():
    for path in documents.documents():
        texts = [span for _, span in documents.spans(path)] + [block.code for block in documents.blocks(path)]
        for text in texts:
            for module in re.findall(r"python -m ((?:rsis_tf|export)[\w.]*)", text):
                assert importlib.util.find_spec(module), f"{path.name}: {module}"


def test_the_checks_find_what_is_wrong(tmp_path):
    (tmp_path / "README.md").write_text(
        "# A b-c `d`\n\nSee [x](#a-b-c-d), [y](gone.md) and `--nonsense 3`.\n\n| `--other` | `--steps 3` |\n"
        "\n```sh\nrsis train --nonsense 3  # a comment\n\nrsis fly\n```\n",
        encoding="utf-8",
    )
    (path,) = documents.documents(tmp_path)
    assert documents.anchors(path) == {"a-b-c-d"}
    assert list(documents.links(path)) == [(3, "#a-b-c-d"), (3, "gone.md")]
    assert list(documents.spans(path)) == [(1, "d"), (3, "--nonsense 3"), (5, "--steps 3")]
    lines = list(documents.commands(path, tmp_path))
    assert lines == [("README.md:8", ["rsis", "train", "--nonsense", "3"]), ("README.md:10", ["rsis", "fly"])]
    assert [problems(words) for _, words in lines] == [["train has no option --nonsense"], ["no command fly"]]


# The code blocks of the README, in a folder with a tiny run, a tiny dataset and a tiny ONNX file.

NOT_RUN = {
    "python3 -m venv": "the set-up commands: .ci/run runs the second, and the first downloads packages and trains",
    "rsis convert models/pascal": "needs the authors' weights; tests/models/test_convert_pytorch.py has its own",
    "rsis evaluate pascal.keras": "the same, and needs Pascal VOC",
}
"""Beginnings of the lines of shell blocks that are not run, and why."""

SMALLER = {
    "custom().changed(": "tiny().changed(",
    "epochs=50": "epochs=1",
    'encoder="resnet50", hidden_size=128': 'encoder="compact", hidden_size=16',
    "num_steps=10": "num_steps=2",
    "--provider cuda": "--provider cpu",
}
"""What is replaced in a block before it runs: the same code in seconds and without downloads."""

TINY = (
    "--preset paper --epochs 1 --train-size 8 --val-size 4 --batch-size 4 --image-size 32 --steps 2 --hidden-size 16 "
    "--min-channels 0 --decoder-stages 3"
)
"""The paper's network in its smallest form, which compiles fastest."""


def smaller(text: str) -> str:
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    return text


def test_every_exception_is_used():
    text = README.read_text(encoding="utf-8")
    for exception in (*NOT_RUN, *SMALLER):
        assert exception in text, exception


def write_photos(folder: pathlib.Path) -> None:
    """Writes a COCO dataset with the splits train and val, three images each with a cup and a plate."""
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        (folder / "annotations").mkdir(exist_ok=True)
        images, annotations = [], []
        for number in range(1, 4):
            pixels = np.zeros((40, 48, 3), np.uint8)
            pixels[5:20, 5:20, 0] = 255
            pixels[22:36, 25:44, 1] = 250
            Image.fromarray(pixels).save(folder / f"{split}/{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 48, "height": 40})
            for category, (x0, y0, x1, y1) in ((1, (5, 5, 20, 20)), (2, (25, 22, 44, 36))):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "iscrowd": 0,
                        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                    }
                )
        categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "plate"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"annotations/{split}.json").write_text(json.dumps(content), encoding="utf-8")


def write_model(path: pathlib.Path) -> None:
    """Writes the graph of the tests of export, whose masks are colour channels, with the classes of the dataset."""
    from toy_graphs import write_toy_graph

    metadata = {"class_names": '["background", "cup", "plate"]', "image_size": "[8, 8]", "dynamic_size": "false"}
    metadata |= {"num_steps": "3", "stop_threshold": "0.5", "mask_threshold": "0.5"}
    write_toy_graph(path, metadata=metadata)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the README's commands expect: `photos`, `images`, `model.onnx` and `runs/leaves`."""
    folder = tmp_path_factory.mktemp("readme")
    write_photos(folder / "photos")
    (folder / "images").mkdir()
    Image.new("RGB", (50, 30), (200, 60, 20)).save(folder / "images/red.png")
    write_model(folder / "model.onnx")
    before = pathlib.Path.cwd()
    os.chdir(folder)
    try:
        code, screen = call("train", *TINY.split(), "--out", "runs/leaves")
    finally:
        os.chdir(before)
    assert code == 0, screen
    return folder


@pytest.mark.slow
def test_shell_blocks_run(place, monkeypatch):
    monkeypatch.chdir(place)
    ran = []
    for line, words in documents.commands(README):
        text = " ".join(words)
        if any(text.startswith(beginning) for beginning in NOT_RUN):
            continue
        assert words[0] == "rsis", f"{line}: {text}"
        words = smaller(text).split()
        if words[1] == "train" and "--help" not in words and "--print-config" not in words:
            words.append("--print-config")  # the fixture trains, and the settings are what these lines show
        code, screen = call(*words[1:])
        assert code == 0, f"{line}: {text}\n{screen[-2000:]}"
        ran.append(words[1])
    assert {"train", "evaluate", "predict", "export"} <= set(ran)
    for result in ("model.onnx", "saved_model", "model.tflite"):
        assert (place / "runs/leaves" / result).exists(), result
    assert (place / "found.json").is_file()
    assert any((place / "overlays").iterdir())
    assert (place / "found/counts.csv").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_trainings_in_the_documents_have_valid_settings(path, tmp_path, monkeypatch):
    """The lines that name a dataset or nothing at all; those that name another run need that run."""
    monkeypatch.chdir(tmp_path)
    for line, words in documents.commands(path):
        if words[:2] == ["rsis", "train"] and not {"--transfer", "--resume"} & set(words):
            code, screen = call(*words[1:], "--print-config")
            assert code == 0, f"{line}: {screen[-500:]}"


@pytest.fixture
def names(place):
    """What the README's Python blocks use without defining it."""
    from rsis_tf.config.presets import custom

    def tiny():
        settings = {"encoder": "compact", "encoder_weights": "none", "hidden_size": 16, "min_channels": 0}
        settings |= {"mask_head": "convolution", "class_features": "pooled", "neck_channels": 0, "decoder_stages": 3}
        settings |= {"partial_sequences": 0.0, "sequence_length": None, "calibrate_objectness": False}
        settings |= {"image_size": (32, 32), "num_steps": 2, "max_objects": 2, "batch_size": 3, "augment": False}
        return custom().changed(dataset="coco", **settings)

    generator = np.random.default_rng(0)
    masks = np.zeros((1, 2, 32, 32), np.float32)
    masks[0, 0, :10, :10] = masks[0, 1, 20:, 20:] = 1
    return {
        "tiny": tiny,
        "image": np.asarray(Image.open(place / "photos/val/1.png")),
        "images": generator.integers(0, 256, (1, 32, 32, 3), np.uint8),
        "masks": masks,
        "classes": np.array([[1, 2]]),
        "valid": np.ones((1, 2), np.float32),
    }


@pytest.mark.slow
def test_python_blocks_run(place, names, monkeypatch, capsys):
    monkeypatch.chdir(place)
    python = [block for block in documents.blocks(README) if block.language == "python"]
    assert len(python) >= 4
    for block in python:
        code = smaller(block.code)
        if importlib.util.find_spec("pandas") is None:
            code = re.sub(r"^.*\.to_pandas\(\).*$", "", code, flags=re.MULTILINE)
        file, _, line = block.place.rpartition(":")
        exec(compile("\n" * (int(line) - 1) + code, file, "exec"), names)
    assert (place / "runs/photos/best.keras").is_file()
    assert (place / "model.keras").is_file()
    assert (place / "found.png").is_file()
    assert "cup" in capsys.readouterr().out
