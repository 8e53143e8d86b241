"""Predicts a folder of images on all cores or machines of a Ray cluster and writes COCO results.

    python examples/ray_batch.py runs/nuclei/model.onnx images/ predictions.json --actors 4

Each actor opens the model once. The job writes `predictions.json`, a list of COCO results (image_id, category_id,
score, segmentation, …), and `predictions.images.json` with the file name, the size and the number of objects of each
image. `image_id` is the position of the image in the sorted folder, from 1. Needs: pip install ".[cpu,ray]".
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.files import write_bytes
from rsis_tf.images import IMAGE_SUFFIXES, list_images, read_image
from rsis_tf.runtime import Predictor


class PredictBatch:
    """The state of one actor: the model, opened once. It is called with batches of paths.

    Args:
        model: path of the ONNX file.
        providers: see `rsis_tf.runtime.Options`.
        threads: CPU threads of the actor.
        polygons: whether to return outlines instead of run lengths.
    """

    def __init__(self, model: str, *, providers: Sequence[str], threads: int, polygons: bool) -> None:
        self._predictor = Predictor(model, providers=list(providers), threads=threads)
        self._polygons = polygons

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        """Predicts `path` (N,) of images numbered `image_id` (N,); an image that cannot be read has an `error`."""
        rows: dict[str, list] = {"image_id": [], "path": [], "size": [], "objects": [], "error": []}
        for image_id, path in zip(batch["image_id"], batch["path"], strict=True):
            size, objects, error = (0, 0), [], ""
            try:
                found = self._predictor(read_image(path))
                size, objects = found.size, found.to_coco(int(image_id), self._predictor.category_ids)
                if self._polygons:
                    for row, polygons in zip(objects, found.to_polygons(), strict=True):
                        row["segmentation"] = [polygon.flatten().tolist() for polygon in polygons]
            except InputError as reason:
                error = str(reason)
            for key, value in zip(rows, (int(image_id), path, list(size), json.dumps(objects), error), strict=True):
                rows[key].append(value)
        return rows


def predict_folder(
    model: pathlib.Path,
    folder: pathlib.Path,
    *,
    actors: int,
    providers: Sequence[str] = ("cpu",),
    threads: int = 1,
    batch_size: int = 16,
    polygons: bool = False,
) -> list[dict[str, Any]]:
    """Runs the job on the connected Ray cluster, or on this machine if there is none.

    Args:
        model: ONNX file; a path that every machine of the cluster can read.
        folder: with the images; likewise.
        actors: number of sessions that run at the same time.
        providers: "cuda" assigns one GPU to each actor.
        threads: CPU threads of an actor.
        batch_size: images that an actor receives at a time.
        polygons: whether to return outlines instead of run lengths.

    Returns:
        One row for each image in the order of the names: image_id, path, size, objects (COCO results), error.

    Raises:
        InputError: for a folder without images.
    """
    import ray

    paths = list_images(folder)
    if not paths:
        raise InputError(f"expected images ({', '.join(IMAGE_SUFFIXES)}). Received: {folder}, which has none")
    rows = [{"image_id": i, "path": str(path.absolute())} for i, path in enumerate(paths, start=1)]
    answers = ray.data.from_items(rows).map_batches(
        PredictBatch,
        fn_constructor_args=(str(model.absolute()),),
        fn_constructor_kwargs={"providers": tuple(providers), "threads": threads, "polygons": polygons},
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=threads,
        num_gpus=0 if tuple(providers) == ("cpu",) else 1,
    )
    found = sorted(answers.iter_rows(), key=lambda row: row["image_id"])
    return [row | {"size": list(map(int, row["size"])), "objects": json.loads(row["objects"])} for row in found]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = ArgumentParser(prog="python examples/ray_batch.py", description=__doc__)
    parser.add_argument("model", type=pathlib.Path, help="ONNX file that `rsis export onnx` wrote")
    parser.add_argument("folder", type=pathlib.Path, help="folder of images")
    parser.add_argument("out", type=pathlib.Path, help="COCO results to write (.json)")
    parser.add_argument("--actors", type=int, default=os.cpu_count(), help="sessions (default: one per core)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a session (default: 1)")
    parser.add_argument("--batch-size", type=int, default=16, help="images per call of an actor (default: 16)")
    parser.add_argument("--provider", default="cpu", help="cpu, cuda or tensorrt (default: cpu)")
    parser.add_argument("--polygons", action="store_true", help="write outlines instead of run lengths")
    with command_line():
        options = parser.parse_args(arguments)
        if not options.folder.is_dir():
            raise InputError(f"expected a folder of images. Received: {options.folder}")
        if options.out.suffix != ".json" or not options.out.absolute().parent.is_dir():
            raise InputError(f"expected a .json file in a folder that exists. Received: {options.out}")
        for name in ("actors", "threads", "batch_size"):
            if (value := getattr(options, name)) < 1:
                raise InputError(f"expected a positive number. Received: --{name.replace('_', '-')} {value}")
        # A model that does not open fails here, not in every actor.
        Predictor(options.model, providers=[options.provider], threads=options.threads)
        rows = predict_folder(
            options.model,
            options.folder,
            actors=options.actors,
            providers=(options.provider,),
            threads=options.threads,
            batch_size=options.batch_size,
            polygons=options.polygons,
        )
        images = [
            {
                "id": row["image_id"],
                "file_name": pathlib.Path(row["path"]).name,
                "height": row["size"][0],
                "width": row["size"][1],
                "objects": len(row["objects"]),
                **({"error": row["error"]} if row["error"] else {}),
            }
            for row in rows
        ]
        for path, content in (
            (options.out, [result for row in rows for result in row["objects"]]),
            (options.out.with_suffix(".images.json"), images),
        ):
            write_bytes(path, json.dumps(content).encode() + b"\n")
    unread = sum(bool(row["error"]) for row in rows)
    print(f"{len(rows)} images ({unread} not read), {sum(image['objects'] for image in images)} objects: {options.out}")


if __name__ == "__main__":
    main()
