"""Predicts a folder of pictures on all cores or machines of a Ray cluster and writes COCO results.

python examples/ray_batch.py runs/nuclei/model.onnx pictures/ predictions.json --actors 4

Each actor opens the model once. Written are `predictions.json`, a list of COCO results
(image_id, category_id, score, segmentation), and `predictions.images.json` with file name, size and number of objects
of each picture. `image_id` is the place of the picture in the sorted folder, from 1. Needs: pip install ".[cpu,ray]".
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.images import read_image
from rsis_tf.runtime import Instance, Predictor, RuntimeInputError
from rsis_tf.shapes import to_polygons, to_rle

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class PredictBatch:
    """What one actor holds: the model, opened once; called with batches of paths.

    Args:
        model: path of the ONNX file.
        providers: see `rsis_tf.runtime.Predictor`.
        threads: CPU threads of the actor.
        polygons: whether outlines are written instead of run lengths.
    """

    def __init__(self, model: str, *, providers: Sequence[str], threads: int, polygons: bool) -> None:
        self._predictor = Predictor(model, providers=list(providers), threads=threads)
        self._polygons = polygons

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        """Predicts `path` (N,) of pictures numbered `image_id` (N,); a picture that cannot be read says so."""
        rows: dict[str, list] = {"image_id": [], "path": [], "size": [], "objects": [], "error": []}
        for image_id, path in zip(batch["image_id"], batch["path"], strict=True):
            size, objects, error = (0, 0), [], ""
            try:
                image = read_image(path)
                size = image.shape[:2]
                objects = [self._describe(int(image_id), instance) for instance in self._predictor(image)]
            except InputError as reason:
                error = str(reason)
            for key, value in zip(rows, (int(image_id), path, list(size), json.dumps(objects), error), strict=True):
                rows[key].append(value)
        return rows

    def _describe(self, image_id: int, instance: Instance) -> dict[str, Any]:
        shape = (
            [polygon.flatten().tolist() for polygon in to_polygons(instance.mask)]
            if self._polygons
            else to_rle(instance.mask)
        )
        return {
            "image_id": image_id,
            "category_id": instance.class_id,
            "score": instance.score,
            "segmentation": shape,
        }


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
    """Runs the job on the Ray cluster at hand, or on this machine where there is none.

    Args:
        model: ONNX file; a path that every machine of the cluster sees.
        folder: with the pictures, likewise.
        actors: sessions side by side.
        providers: "cuda" gives each actor a GPU of its own.
        threads: CPU threads of an actor.
        batch_size: pictures an actor is given at a time.
        polygons: outlines instead of run lengths.

    Returns:
        One row for each picture in the order of the names: image_id, path, size, objects (COCO results), error.

    Raises:
        InputError: for a folder without pictures.
    """
    import ray

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"expected pictures ({', '.join(SUFFIXES)}). Received: {folder} without any")
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
    """The command line."""
    parser = ArgumentParser(prog="python examples/ray_batch.py", description=__doc__)
    parser.add_argument("model", type=pathlib.Path, help="file that python -m export.onnx wrote")
    parser.add_argument("folder", type=pathlib.Path, help="folder of pictures")
    parser.add_argument("out", type=pathlib.Path, help="COCO results to write (.json)")
    parser.add_argument("--actors", type=int, default=os.cpu_count(), help="sessions (default: one for each core)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a session (default: 1)")
    parser.add_argument("--batch-size", type=int, default=16, help="pictures given at a time (default: 16)")
    parser.add_argument("--provider", default="cpu", help="cpu, cuda or tensorrt (default: cpu)")
    parser.add_argument("--polygons", action="store_true", help="outlines instead of run lengths")
    with command_line():
        options = parser.parse_args(arguments)
        if not options.folder.is_dir():
            raise InputError(f"expected a folder of pictures. Received: {options.folder}")
        if options.out.suffix != ".json" or not options.out.absolute().parent.is_dir():
            raise InputError(f"expected a .json file in a folder that exists. Received: {options.out}")
        if min(options.actors, options.threads, options.batch_size) < 1:
            raise InputError("expected positive numbers for --actors, --threads, --batch-size. Received: one below")
        try:
            Predictor(options.model, providers=[options.provider], threads=options.threads)  # complain here, once
        except RuntimeInputError as error:
            raise InputError(str(error)) from None
        rows = predict_folder(
            options.model,
            options.folder,
            actors=options.actors,
            providers=(options.provider,),
            threads=options.threads,
            batch_size=options.batch_size,
            polygons=options.polygons,
        )
        _write(options.out, [result for row in rows for result in row["objects"]])
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
        _write(options.out.with_suffix(".images.json"), images)
    unread = sum(bool(row["error"]) for row in rows)
    print(
        f"{len(rows)} pictures ({unread} not read), {sum(image['objects'] for image in images)} objects: {options.out}"
    )


def _write(path: pathlib.Path, content: Any) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
