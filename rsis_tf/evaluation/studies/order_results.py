"""Runs the study of object order on a dataset and writes its numbers, plots and images into a folder."""

import pathlib
from typing import TYPE_CHECKING

from rsis_tf import files, outputs
from rsis_tf.data.sample import Dataset
from rsis_tf.evaluation.predictions import Predictor, Progress, predict_dataset
from rsis_tf.evaluation.studies import order_plots
from rsis_tf.evaluation.studies.activations import Activations, encoder_activations
from rsis_tf.evaluation.studies.order import OrderScores, OrderStudy

if TYPE_CHECKING:
    from rsis_tf.models import RSIS


def study_order(
    predictor: Predictor,
    dataset: Dataset,
    folder: str | pathlib.Path,
    *,
    before: "RSIS | None" = None,
    progress: Progress | None = None,
) -> tuple[OrderScores, list[pathlib.Path]]:
    """Predicts every image, compares the order of the objects with others, and writes `order.json` and the plots.

    Args:
        predictor: maps images to instances. Activations are studied only if it has `model`, a Keras model.
        dataset: samples at their own size.
        folder: for the results; it is created after the last image.
        before: a model, such as one that is not trained yet, whose encoder is compared with the predictor's.
        progress: called after each image.

    Returns:
        The numbers, and the files written.

    Raises:
        InputError: if the dataset is empty, its classes are not the predictor's, or the folder cannot be written to.
    """
    encoders: dict[str, Activations] = {}
    if hasattr(predictor, "model"):
        encoders["as trained"] = encoder_activations(predictor.model)
    if before is not None:
        encoders["before"] = encoder_activations(before)
    study, images = OrderStudy(encoders), order_plots.ActiveObjects(next(iter(encoders.values()), None))
    predict_dataset(predictor, dataset, [study, images], progress=progress)
    scores = study.summarize()
    folder = outputs.make_folder(folder)
    files.write_json(folder / "order.json", scores.to_dict())
    return scores, [folder / "order.json", *order_plots.draw(folder, scores), *images.write(folder / "active.png")]
