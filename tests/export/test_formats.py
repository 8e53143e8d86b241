"""The table of formats: every row names a command, and its help and checks follow the row."""

import pytest

from export.arguments import make_parser, read_options
from export.checks import check_format
from export.formats import FORMATS
from export.options import Options
from rsis_tf.errors import InputError


@pytest.mark.parametrize("row", FORMATS.values(), ids=lambda row: row.name)
def test_every_row_names_a_command(row, capsys):
    for prog in (None, f"rsis export {row.name}"):
        with pytest.raises(SystemExit) as stop:
            row.command()(["--help"], prog=prog)
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: {prog or f'python -m {row.module}'} ")
        assert row.description in text
        assert f"default: {row.default_out}" in " ".join(text.split())


@pytest.mark.parametrize("row", FORMATS.values(), ids=lambda row: row.name)
def test_defaults_of_a_format_are_accepted(row, run_folder):
    options = read_options(make_parser(row).parse_args([str(run_folder)]), row)
    assert options.out == run_folder / row.default_out
    check_format(options, row)


@pytest.mark.parametrize("spelling", ["--batch", "--batch-size"])
def test_both_spellings_of_the_batch_size(run_folder, spelling):
    row = FORMATS["onnx"]
    assert read_options(make_parser(row).parse_args([str(run_folder), spelling, "3"]), row).batch == 3


def test_a_folder_is_replaced_only_by_its_own_format(tmp_path):
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "saved_model.pb").touch()
    (tmp_path / "other").mkdir()
    row = FORMATS["saved_model"]
    for name in ("earlier", "new"):
        check_format(Options(source=tmp_path, out=tmp_path / name), row)
    with pytest.raises(InputError, match=r"an earlier export with saved_model\.pb"):
        check_format(Options(source=tmp_path, out=tmp_path / "other"), row)
    with pytest.raises(InputError, match="expected --out to be a file"):
        check_format(Options(source=tmp_path, out=tmp_path / "earlier"), FORMATS["onnx"])


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_a_file_has_the_suffix_by_which_it_is_opened(name, tmp_path):
    row, other = FORMATS[name], {"onnx": "model.tflite", "tflite": "model.onnx"}[name]
    fixed = {"batch": 1, "resize": False}
    for right in (row.default_out, row.default_out.upper(), f"v1.2.{name}"):
        check_format(Options(source=tmp_path, out=tmp_path / right, **fixed), row)
    for wrong in ("model.txt", "model", f".{name}", f"model.{name}.txt", other):
        with pytest.raises(InputError, match=rf"expected --out to end in \.{name}, .* Received: .*{wrong}$"):
            check_format(Options(source=tmp_path, out=tmp_path / wrong, **fixed), row)
