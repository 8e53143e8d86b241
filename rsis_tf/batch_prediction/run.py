"""Predicts images, folders, patterns and videos and writes the results, one image after the other."""

import collections
import pathlib
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import numpy as np

from rsis_tf.batch_prediction import video
from rsis_tf.batch_prediction.identities import Predicted, Tracking, identify
from rsis_tf.batch_prediction.label_maps import TooManyObjects
from rsis_tf.batch_prediction.results import DEFAULT_KINDS, TRACK_KINDS, Results, UnusableName
from rsis_tf.batch_prediction.sources import Place, Source, as_sequences, find_sources, naming_notes
from rsis_tf.errors import InputError
from rsis_tf.images import read_image
from rsis_tf.progress import ProgressLine
from rsis_tf.runtime import Instance, printable, reason_of


class StreamingPredictor(Protocol):
    """What `predict_paths` needs of a predictor, see `rsis_tf.runtime.BasePredictor`."""

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def stream(self, images: Iterator[np.ndarray]) -> Iterator[Sequence[Instance]]: ...


def predict_paths(
    predictor: StreamingPredictor,
    paths: Sequence[str | pathlib.Path],
    *,
    out: pathlib.Path,
    kinds: Sequence[str] = DEFAULT_KINDS,
    classes: Collection[int] | None = None,
    every: int = 1,
    route: bool = False,
    overwrite: bool = False,
    tracking: Tracking | None = None,
) -> list[pathlib.Path]:
    """Predicts files and writes a folder of results. Prints a line for each image, and reports what it cannot read.

    Args:
        predictor: of any backend.
        paths: images, folders, patterns and videos, see `find_sources`.
        out: the folder of the results.
        kinds: what to write, keys of `KINDS`.
        classes: ids of the classes to write; None for all. Steps keep their numbers.
        every: of a video, frames 0, every, 2·every … are predicted.
        route: draw a line from object to object into the overlays.
        overwrite: remove the results of an earlier run in `out` and replace files of the same names.
        tracking: follow the objects through the frames of each video, and through the images of each folder; objects
            that are never confirmed are left out of all results. None to treat each frame by itself.

    Returns:
        The paths that could not be read, or not to their end, or predicted, or whose results could not be written.

    Raises:
        InputError: if the results cannot be written to `out`, the model fails for every image, or `kinds` need
            identities that are not followed.
    """
    if tracking is None and not set(TRACK_KINDS).isdisjoint(kinds):
        raise InputError(f"expected --track for {' and '.join(TRACK_KINDS)}. Received: {', '.join(kinds)} without it")
    if "video" in kinds:
        video.require("writing videos")
    sources = find_sources(paths, out=out)
    if tracking is not None:
        sources = as_sequences(sources)
    results = Results(
        out,
        kinds=kinds,
        class_names=predictor.class_names,
        category_ids=predictor.category_ids,
        route=route,
        overwrite=overwrite,
    )
    results.check_free([source for source in sources if not source.problem])
    for note in naming_notes(sources):
        print(printable(note), flush=True)
    line = ProgressLine()
    reader = _Reader(sources, every=every, line=line)
    done = 0
    with results:
        frames = _predicted(predictor, reader, classes)
        for frame in frames if tracking is None else identify(frames, tracking):
            source, kept = frame.source, frame.instances
            try:
                results.add(source, frame.image, kept, full=frame.full, ids=frame.ids)
            except (UnusableName, TooManyObjects) as error:
                reader.refuse(source, error)
                continue
            except InputError:  # the next image would fail as well
                raise
            except Exception as error:  # a drawing that its format cannot hold, for instance
                reader.refuse(source, InputError(_unwritable(source, error)))
                continue
            done += 1
            objects = _listed(kept)
            line.clear()
            text = f"{source.path}: {_counted(len(kept), 'object')}{': ' if objects else ''}{objects}"
            print(printable(text), flush=True)
            if frame.full:
                print(printable(f"note: {source.path}: {_of_full(predictor)}"), flush=True)
            line(done + len(reader.refused), reader.total)
    line.clear()
    reader.require_a_prediction()
    for title, counts in results.distinct():
        text = f"{title}: {_counted(sum(counts.values()), 'distinct object')}"
        names = dict(enumerate(predictor.class_names))
        by_class = ", ".join(f"{count} {names.get(number, f'class {number}')}" for number, count in counts.items())
        print(printable(f"{text}: {by_class}" if by_class else text))
    if done:
        print(printable(f"{out}: {', '.join(kinds)} of {_counted(done, 'image')}"))
    if reader.refused:
        refused = [str(path) if path.parts else "''" for path in reader.refused]
        print(printable(f"skipped {_counted(len(reader.refused), 'path')}: {', '.join(refused)}"))
    return reader.refused


def _predicted(
    predictor: StreamingPredictor, reader: "_Reader", classes: Collection[int] | None
) -> Iterator[Predicted]:
    """Predicts the images that the reader reads and keeps the objects of the classes asked for."""
    for source, image, found in _found(predictor, reader):
        kept = [instance for instance in found if classes is None or instance.class_id in classes]
        yield Predicted(source=source, image=image, instances=kept, full=getattr(found, "full", False))


def _found(predictor: StreamingPredictor, reader: "_Reader") -> Iterator[tuple[Source, np.ndarray, Sequence[Instance]]]:
    """Yields each image with what the model finds. The images of a batch that fails are predicted one by one."""
    images = iter(reader)
    while True:
        try:
            for found in predictor.stream(images):
                reader.model_works()
                yield (*reader.waiting.popleft(), found)
            return
        except Exception as error:
            if not reader.waiting:  # no image was asked for
                raise
            # Without its traceback, which holds the images of the batch.
            reason = _reason(error)
        batch = list(reader.waiting)
        reader.waiting.clear()
        for source, image in batch:
            if len(batch) > 1:
                try:
                    (found,) = predictor.stream(iter([image]))
                except Exception as error:
                    reason = _reason(error)
                else:
                    reader.model_works()
                    yield source, image, found
                    continue
            reader.model_fails(source, reason)


class _Reader:
    """Reads sources one after the other; reports what it cannot read, or the model cannot predict, and continues.

    Attributes:
        refused: paths that could not be read, or not to their end, or not be predicted.
        total: number of images, including the frames of videos as far as their headers tell.
        waiting: images that were read but not yet predicted.
    """

    def __init__(self, sources: list[Source], *, every: int, line: ProgressLine) -> None:
        self._sources = sources
        self._every = every
        self._line = line
        self.refused: list[pathlib.Path] = []
        self.total = len(sources)
        self.waiting: collections.deque[tuple[Source, np.ndarray]] = collections.deque()
        self._works = False
        self._failures: list[tuple[Source, InputError]] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        for source in self._sources:
            try:
                if source.problem:
                    raise InputError(source.problem)
                for frame, image in self._frames(source) if source.is_video else self._image(source):
                    self.waiting.append((frame, image))
                    yield image
            except InputError as error:  # the other images are still wanted
                self.refuse(source, error)
            except Exception as error:  # no path may end the run: libraries raise their own errors for broken files
                expected = "a video" if source.is_video else "an image file"
                message = f"expected {expected} that can be read. Received: {source.path} ({reason_of(error)})"
                self.refuse(source, InputError(message))

    def refuse(self, source: Source, error: InputError) -> None:
        """Reports a path that could not be predicted."""
        self._line.clear()
        print(f"error: {error}", file=sys.stderr, flush=True)
        self.refused.append(source.path)

    def model_works(self) -> None:
        """Says that the model has predicted an image; failures for others are then reported one by one."""
        self._works = True
        for source, error in self._failures:
            self.refuse(source, error)
        self._failures.clear()

    def model_fails(self, source: Source, reason: str) -> None:
        """Reports an image on which the model fails, once it is known that it does not fail on all of them."""
        error = InputError(f"expected an image that the model can predict. Received: {source.path} ({reason})")
        self._failures.append((source, error))
        if self._works:
            self.model_works()

    def require_a_prediction(self) -> None:
        """Checks that the model has not failed on every image.

        Raises:
            InputError: with the reason of the first failure.
        """
        if not self._failures:
            return
        _, error = self._failures[0]
        if len(self._failures) == 1:
            raise error
        raise InputError(
            f"expected a model that can predict the images. Received: a failure on each of {len(self._failures)}, "
            f"the first: {error}"
        )

    def _image(self, source: Source) -> Iterator[tuple[Source, np.ndarray]]:
        # Libraries warn of metadata that they cannot read, and of very large images.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = read_image(source.path)
        for text in sorted({" ".join(str(warning.message).split()) for warning in caught}):
            self._line.clear()
            print(printable(f"note: {source.path}: {text}"), flush=True)
        yield source, image

    def _frames(self, source: Source) -> Iterator[tuple[Source, np.ndarray]]:
        self.total += video.count_frames(source.path, every=self._every) - 1
        rate = video.frame_rate(source.path) if source.place else None
        for number, seconds, image in video.read_frames(source.path, every=self._every):
            frame = f"{number:06d}"
            below = f"{source.below}/{frame}"
            place = source.place and Place(
                sequence=source.place.sequence,
                title=source.place.title,
                position=number // self._every,
                frame=number,
                seconds=seconds,
                rate=rate and rate / self._every,
            )
            yield Source(path=source.path / frame, name=f"{source.name}/{frame}", below=below, place=place), image


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else reason_of(error)


def _unwritable(source: Source, error: Exception) -> str:
    return f"expected an image whose results can be written. Received: {source.path} ({reason_of(error)})"


_MOST_LISTED = 20


def _of_full(predictor: StreamingPredictor) -> str:
    """Returns the note on a sequence that used all its steps, with the options that are left to try."""
    options = ["--tile"] if getattr(predictor, "tile", None) is None else []
    options += ["--steps"] if getattr(predictor, "any_steps", False) else []
    more = f" ({' and '.join(options)} find{'' if len(options) > 1 else 's'} more)" if options else ""
    return f"a sequence used all its steps, so there may be more objects{more}"


def _listed(instances: Sequence[Instance]) -> str:
    """Returns class and score of each object; of many, only the number of each class."""
    if len(instances) <= _MOST_LISTED:
        return ", ".join(f"{instance.class_name} {instance.score:.2f}" for instance in instances)
    counts = collections.Counter(instance.class_name for instance in instances)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
