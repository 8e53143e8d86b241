import html.parser
import json

import numpy as np
import pytest

from rsis_tf.cli import ablation, report
from rsis_tf.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from rsis_tf.config.json_file import to_json
from rsis_tf.config.presets import PRESETS
from rsis_tf.errors import InputError
from rsis_tf.evaluation.protocols import PROTOCOLS
from rsis_tf.evaluation.report import write_report
from rsis_tf.evaluation.studies.ablation import read_runs, table
from rsis_tf.visualization import write_image


def metrics(ap50, **changes):
    values = {
        "split": "val",
        "stop": "first",
        "images": 10,
        "objects": 30,
        "predictions": 28,
        "seconds_per_image": 0.02,
    }
    values |= {"ap": ap50 / 2, "ap50": ap50, "ap75": None, "sbd": 0.7, "abs_dic": 0.8}
    values["per_class"] = {"person & <dog>": {"objects": 30, "ap": ap50 / 2, "ap50": ap50 - 0.01, "ap75": None}}
    values["intervals"] = {"ap50": [ap50 - 0.05, ap50 + 0.05], "abs_dic": [0.6, 1.0], "ap75": None}
    return values | changes


def make_run(folder, *, scores=None, **model):
    folder.mkdir()
    config = RunConfig(
        model=ModelConfig(hidden_size=32, num_classes=2, **model),
        data=DataConfig(dataset="coco", root=str(folder)),
        train=TrainConfig(epochs=2),
    )
    (folder / "config.json").write_text(to_json(config))
    if scores is not None:
        (folder / "metrics.json").write_text(json.dumps(scores))
    return folder


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path / "concat", scores=metrics(0.530)),
        make_run(tmp_path / "sum", scores=metrics(0.567), skip_mode="sum"),
        make_run(tmp_path / "two", scores=metrics(0.545), decoder_stages=2, dropout=0.25),
    ]


def test_the_table_shows_the_settings_that_differ_and_the_scores(runs):
    lines = table(read_runs(runs, class_name="person & <dog>")).splitlines()
    assert lines[0].split("  ")[0] == "run"
    assert "dropout" in lines[0]
    assert "root" not in lines[0]  # differs, but is no setting of the training
    assert "hidden_size" not in lines[0]  # equal in all runs
    assert lines[2].split()[:4] == ["sum", "resnet50", "sum", "5"]
    assert "56.7 (51.7–61.7)" in lines[2]
    assert "55.7" in lines[2]
    assert "0.80 (0.60–1.00)" in lines[2]
    assert lines[3].split()[:5] == ["two", "resnet50", "concat", "2", "0.25"]
    assert len(lines) == 4


def test_the_table_names_runs_scored_on_different_images(runs):
    (runs[0] / "metrics.json").write_text(json.dumps(metrics(0.5, images=11)))
    assert "scored on different images" in table(read_runs(runs))


def test_the_command_writes_json_and_markdown(runs, tmp_path, capsys):
    ablation.main([*map(str, runs), "--markdown", "--out", str(tmp_path / "rows.json")])
    assert "| concat | resnet50 |" in capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["scores"]["ap50"] for row in rows] == [0.530, 0.567, 0.545]


def test_the_columns_of_table_5_are_in_the_papers_protocol(runs, tmp_path, capsys):
    """They come from the file of that protocol and not from metrics.json."""
    classes = {"dog": {"ap50": 0.9}, "person": {"ap50": 0.6094}}
    for run, ap50 in zip(runs, (0.576, 0.567, 0.545), strict=True):
        settings = PROTOCOLS["paper-voc"].settings()
        paper = metrics(ap50, stop="each", protocol=settings, per_class=classes)
        (run / "metrics-paper-voc.json").write_text(json.dumps(paper))
    (runs[2] / "metrics.json").unlink()
    ablation.main([*map(str, runs), "--out", str(tmp_path / "rows.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].index("AP50 (table 5)") < lines[0].index("AP50 person (table 5)") < lines[0].index("|DiC|")
    assert "57.6 (52.6–62.6)" in lines[1]
    assert "60.9" in lines[1]
    assert "53.0 (48.0–58.0)" in lines[1]  # metrics.json has a separate column
    assert lines[3].split()[-4:] == ["–"] * 4
    assert "not scored in the protocol" not in "".join(lines)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["scores"]["table5_ap50"] for row in rows] == [0.576, 0.567, 0.545]
    assert rows[0]["scores"]["table5_person"] == 0.6094
    ablation.main([str(runs[2]), "--class", "dog"])
    assert "AP50 dog (table 5)" in capsys.readouterr().out


def test_the_command_names_runs_without_the_papers_protocol_and_changes_to_it(runs, capsys):
    settings = PROTOCOLS["paper-voc"].settings() | {"min_size": 0.0}
    (runs[0] / "metrics-paper-voc.json").write_text(json.dumps(metrics(0.576, protocol=settings)))
    ablation.main([*map(str, runs)])
    text = capsys.readouterr().out
    assert text.splitlines()[-1].endswith("(rsis evaluate RUN --protocol paper-voc): sum, two")
    assert "min_size=0.0" in text


def test_folders_that_are_no_scored_runs_are_refused(runs, tmp_path, capsys):
    with pytest.raises(InputError, match="none"):
        read_runs([])
    with pytest.raises(InputError, match="cat"):
        read_runs(runs, class_name="cat")
    unscored = make_run(tmp_path / "unscored")
    for command, arguments in (
        (ablation.main, [str(unscored)]),
        (ablation.main, [str(tmp_path / "nowhere")]),
        (ablation.main, [str(runs[0]), "--out", str(tmp_path / "no" / "rows.json")]),
        (report.main, [str(tmp_path / "nowhere")]),
        (report.main, [str(tmp_path)]),
        (report.main, [str(runs[0]), "--out", str(tmp_path / "no" / "report.html")]),
    ):
        with pytest.raises(SystemExit) as stop:
            command(arguments)
        assert stop.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert "Received: " in lines[0]


class Outside(html.parser.HTMLParser):
    """Collects the sources and the text of a page and checks that all tags are closed."""

    def __init__(self):
        super().__init__()
        self.sources, self.text, self.open = [], "", []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_page(path):
    page = Outside()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_the_report_is_one_file_that_contains_its_images(tmp_path, capsys):
    run = make_run(tmp_path / "run", scores=metrics(0.53))
    (run / "log.csv").write_text("epoch,loss,val_loss\n1,2.0,2.5\n2,1.0,1.5\n")
    write_image(run / "sequences.png", np.zeros((40, 50, 3), np.uint8))
    (run / "order").mkdir()
    write_image(run / "order" / "tau.png", np.zeros((40, 50, 3), np.uint8))
    report.main([str(run)])
    assert str(run / "report.html") in capsys.readouterr().out
    page = read_page(run / "report.html")
    assert len(page.sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    html = (run / "report.html").read_text()
    assert html.count('<div class="scale">') == 1  # for AP50; |DiC| has an interval too, but is not a fraction
    assert "url(" not in (run / "report.html").read_text()
    for text in ("0.530", "0.480 … 0.580", "person & <dog>", "Kendall", "10 images", '"hidden_size": 32', "20.0 ms"):
        assert text in page.text
    assert sorted(p.name for p in run.iterdir()) == [
        "config.json",
        "log.csv",
        "metrics.json",
        "order",
        "report.html",
        "sequences.png",
    ]


def test_the_report_shows_text_of_the_scores_as_text_and_refuses_broken_ones(tmp_path):
    (tmp_path / "config.json").write_text(to_json(PRESETS["shapes"]()))
    scores = {"category_ids": {"cup": "<script>1</script>"}, "per_class": {"cup": {"objects": "<i>x</i>", "ap50": 0.5}}}
    (tmp_path / "metrics.json").write_text(json.dumps(scores))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "&lt;script&gt;1" in page
    assert "&lt;i&gt;x" in page
    assert "<script>" not in page
    for broken in ({"intervals": None}, {"ap50": "x"}, {"intervals": {"ap60": [0, 1]}, "at": None}, {"per_class": [1]}):
        (tmp_path / "metrics.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match=r"expected a run's scores\. Received: .*metrics\.json \(."):
            write_report(tmp_path)


def test_the_report_names_settings_that_differ_from_the_protocol(tmp_path):
    run = make_run(tmp_path / "run", scores=metrics(0.53, protocol=PROTOCOLS["plain"].settings()))
    assert "threshold" not in read_page(write_report(run)).text.split("Settings")[0]
    changed = PROTOCOLS["plain"].settings() | {"stop_threshold": 0.7, "max_dets": [3]}
    (run / "metrics.json").write_text(json.dumps(metrics(0.53, protocol=changed)))
    assert "20.0 ms per image, stop_threshold=0.7, max_dets=[3]. Intervals" in read_page(write_report(run)).text


def test_report_and_table_name_other_ways_to_predict(runs):
    """`rsis evaluate RUN --tile --flips --steps 30 --class leaf --out RUN/metrics.json`."""
    options = {"steps": 30, "tile": "auto", "tile_overlap": 0, "flips": True, "classes": ["leaf"]}
    (runs[0] / "metrics.json").write_text(json.dumps(metrics(0.53, **options)))
    text = "steps=30, tile=auto, tile_overlap=0, flips=True, classes=['leaf']"
    assert text in read_page(write_report(runs[0])).text
    assert f"concat: coco, val, first, 10, {text}; sum: coco" in table(read_runs(runs))


def test_a_broken_file_of_scores_is_named_with_the_command_that_writes_it(runs, capsys):
    run = runs[0]
    for name, options in (("metrics.json", ""), ("metrics-paper-voc.json", " --protocol paper-voc")):
        (run / name).write_text("{")
        with pytest.raises(SystemExit) as stop:
            ablation.main([str(run)])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert f"expected the scores that `rsis evaluate {run}{options}` writes. Received: {run / name}" in error
        (run / name).unlink()


def test_the_report_of_an_unfinished_run_says_what_is_missing(tmp_path):
    run = make_run(tmp_path / "run")
    page = read_page(write_report(run, tmp_path / "page.html"))
    assert page.sources == []
    for text in ("Not scored yet", "no log.csv", "no sequences.png"):
        assert text in page.text
