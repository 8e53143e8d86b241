"""Every flag of the original has a row in `docs/from-the-original.md`, and those of its training do what they did."""

import pathlib
import re

import pytest

from rsis_tf.cli.train import make_parser, parse
from rsis_tf.cli.train_settings import configure
from rsis_tf.config.presets import PRESETS
from rsis_tf.errors import InputError

PAGE = pathlib.Path(__file__).parents[2] / "docs/from-the-original.md"

# The flags of src/args.py in imatge-upc/rsis at 5ff598c, in its order.
FLAGS = """
--resume -epoch_resume -seed -batch_size -lr -lr_cnn -optim_cnn -momentum -weight_decay -weight_decay_cnn -optim
-maxseqlen -gt_maxseqlen -best_val_loss --crop --smooth_curves -finetune_after --update_encoder --transfer
-transfer_from --curriculum_learning -steps_cl -min_steps -min_delta -class_loss_after --use_class_loss
-stop_loss_after --use_stop_loss -patience -patience_stop -max_epoch -print_every --log_term --visdom -port -server
-class_weight -iou_weight -stop_weight -stop_balance_weight --augment -rotation -translation -shear -zoom --cpu -ngpus
-base_model -skip_mode -model_name -log_file -hidden_size -kernel_size -dropout -dropout_stop -dropout_cls -imsize
--resize -num_classes -dataset -pascal_dir -cityscapes_dir -leaves_dir -leaves_test_dir -num_workers -eval_split
-mask_th -stop_th -class_th -max_dets -min_size -cat_id --ignore_cats --display --no_display_text --all_classes
--no_run_coco_eval --display_route
""".split()


def rows():
    """(section, flag, option) of every row that begins with a flag."""
    section, found = "", []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        if line.startswith("| `-"):
            flag, _, option, _ = (cell.strip() for cell in line.strip("|").split(" |"))
            found.append((section, flag.strip("`"), option))
    return found


def test_every_flag_has_one_row_with_an_option_or_none():
    assert len(FLAGS) == 78
    assert sorted(flag for _, flag, _ in rows()) == sorted(FLAGS)
    for section, flag, option in rows():
        assert option == "none" or option.startswith("`--"), (section, flag)


def test_flags_without_an_option_say_why():
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if "| none |" in line:
            assert len(line.split("| none |")[1].strip(" |")) > 10, line


def test_options_of_training_and_model_are_there():
    known = {flag for action in make_parser()._actions for flag in action.option_strings}
    for section, flag, option in rows():
        if section in ("Training", "Model") and option != "none":
            assert re.search(r"--[a-z-]+", option)[0] in known, flag


# A flag of the original with a value → our option, and what it must become. The commands' own presets keep the rest.
TRAINING = {
    "-lr 0.5": ("--learning-rate 0.5", {"learning_rate": 0.5}),
    "-lr_cnn 0.5": ("--encoder-learning-rate 0.5", {"encoder_learning_rate": 0.5}),
    "-optim sgd": ("--optimizer sgd", {"optimizer": "sgd", "momentum": 0.9}),
    "-optim rmsprop": ("--optimizer rmsprop", {"optimizer": "rmsprop"}),
    "-optim_cnn sgd": ("--encoder-optimizer sgd", {"encoder_optimizer": "sgd"}),
    "-weight_decay 0.5": ("--weight-decay 0.5", {"weight_decay": 0.5}),
    "-weight_decay_cnn 0.5": ("--encoder-weight-decay 0.5", {"encoder_weight_decay": 0.5}),
    "--smooth_curves": ("--smooth-curves", {"smooth_curves": True}),
    "-min_delta 0.5": ("--min-delta 0.5", {"min_delta": 0.5}),
    "-max_epoch 7": ("--epochs 7", {"epochs": 7}),
    "-class_weight 0.7": ("--class-weight 0.7", {"class_weight": 0.7}),
    "-iou_weight 0.7": ("--mask-weight 0.7", {"mask_weight": 0.7}),
    "-stop_weight 0.7": ("--stop-weight 0.7", {"stop_weight": 0.7}),
    "-stop_balance_weight 0.7": ("--stop-balance 0.7", {"stop_balance": 0.7}),
    "--use_class_loss": ("--class-loss-after 0", {"class_loss_after": 0}),
    "--use_stop_loss": ("--stop-loss-after 0", {"stop_loss_after": 0}),
    "--update_encoder": ("--finetune-after 0", {"finetune_after": 0}),
}


@pytest.mark.parametrize("flag", TRAINING)
@pytest.mark.parametrize("preset", ["voc", "cityscapes", "cvppp"])
def test_flags_of_training_reach_the_settings(flag, preset):
    options, expected = TRAINING[flag]
    assert any(row[1] == flag.split()[0] and row[2].split()[0].strip("`") in options for row in rows())
    settings = configure(parse(["--preset", preset, "--data", "there", *options.split()]))
    assert settings == PRESETS[preset]().changed(root="there", **expected)


def test_presets_of_the_paper_keep_the_defaults_of_the_original():
    defaults = {
        **{"optimizer": "adam", "encoder_optimizer": "adam", "momentum": 0.9, "weight_decay": 1e-6},
        **{"encoder_weight_decay": 1e-6, "mask_weight": 1.0, "class_weight": 0.1, "stop_balance": 0.5},
        **{"smooth_curves": False, "min_delta": 0.0, "learning_rate": 1e-3, "encoder_learning_rate": 1e-6},
    }
    for name in ("voc", "cityscapes", "cvppp"):
        train = PRESETS[name]().train.flat()
        assert {field: train[field] for field in defaults} == defaults


def test_momentum_without_an_optimizer_that_has_it_is_refused():
    with pytest.raises(InputError, match=r"Received: --momentum 0\.5 with --optimizer adam"):
        configure(parse("--optimizer adam --momentum 0.5".split()))
    assert configure(parse("--optimizer sgd --momentum 0.5".split())).train.optimization.momentum == 0.5
    assert configure(parse("--encoder-optimizer sgd --momentum 0.5".split())).train.optimization.momentum == 0.5


def test_an_encoder_from_nothing_gets_the_optimizer_of_the_rest():
    command = "--preset paper --dataset coco --data there --optimizer sgd"
    assert configure(parse(command.split())).train.optimization.encoder_optimizer == "adam"
    assert (
        configure(parse([*command.split(), "--encoder-weights", "none"])).train.optimization.encoder_optimizer is None
    )
