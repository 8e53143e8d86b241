"""The files written for predicted images: label maps, overlays, animations, a COCO file, counts, tracks, videos."""

import contextlib
import errno
import os
import pathlib
import types
from collections.abc import Iterator, Sequence

import numpy as np

from rsis_tf.batch_prediction.coco_file import CocoFile
from rsis_tf.batch_prediction.identities import Distinct, drawn
from rsis_tf.batch_prediction.label_maps import identified, narrowed, numbered
from rsis_tf.batch_prediction.manifest import NAME, Manifest
from rsis_tf.batch_prediction.sources import Place, Source
from rsis_tf.batch_prediction.tables import TracksFile, write_counts, write_distinct
from rsis_tf.batch_prediction.video import VideoWriter
from rsis_tf.errors import InputError
from rsis_tf.files import replacing
from rsis_tf.runtime import Instance, Instances

KINDS = {
    "labels": "NAME_labels.png: pixel value i for the i-th object found, 0 for none; 16 bits beyond 255 objects",
    "overlay": "NAME_overlay.png: the objects drawn over the image, with class and score",
    "strip": "NAME_strip.png: the object of each step, side by side",
    "animation": "NAME_sequence.gif: the objects appear one after the other",
    "json": "instances.json: all masks, classes and scores in COCO's annotation format",
    "counts": "counts.csv: the number of objects of each class in each image; full is 1 if a sequence used all its "
    "steps, so that there may be more objects",
    "tracks": "with --track, tracks.csv: frame, identity, class, score, area, box and centre of each object; "
    "distinct.csv: the number of distinct objects of each class in each video",
    "video": "with --track, NAME_tracked.mp4: the objects drawn over the video, with their identities",
}
"""Kind of result → the file written and its content."""
TRACK_KINDS = ("tracks", "video")
"""Kinds that need identities."""
DEFAULT_KINDS = ("labels", "overlay", "counts")
DEFAULT_TRACK_KINDS = ("labels", "counts", "tracks", "video")
"""Written by default if identities are followed."""
_FILES = {"json": ("instances.json",), "counts": ("counts.csv",), "tracks": ("tracks.csv", "distinct.csv")}
"""Kind → the files that all images share."""
_RATE = 10.0
"""Frames per second of a video whose rate is unknown, such as the images of a folder."""
_SUFFIXES = {
    "labels": "_labels.png",
    "overlay": "_overlay.png",
    "strip": "_strip.png",
    "animation": "_sequence.gif",
}


class Results:
    """A folder of results. `counts.csv` and `instances.json` appear when the `with` block ends without an error.

    `results.txt` lists the files. Nothing is changed before the first image is added.

    Args:
        folder: created when the first image is added.
        kinds: keys of `KINDS`.
        class_names: K names, or none if the model knows none.
        category_ids: K numbers of the classes in COCO files; empty for 0 … K−1.
        route: draw a line from object to object into the overlays.
        overwrite: remove the results of an earlier run in the folder, and replace files of the same names.

    Raises:
        InputError: if `folder` is a file, or holds results of an earlier run and `overwrite` is false.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        kinds: Sequence[str],
        class_names: Sequence[str],
        category_ids: Sequence[int] = (),
        route: bool = False,
        overwrite: bool = False,
    ) -> None:
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise InputError(f"expected a folder for the results. Received: {folder}, which is a file")
        self._folder = folder
        self._manifest = Manifest(folder)
        self._overwrite = overwrite
        earlier = self._manifest.read()
        if earlier and not overwrite:
            raise InputError(
                "expected a folder without results of an earlier run (--overwrite removes those, and nothing else). "
                f"Received: --out {folder} with {len(earlier)} files listed in {NAME}"
            )
        self._started = False
        self._inputs: list[pathlib.Path] = []
        self._kinds = frozenset(kinds)
        self._class_names = tuple(class_names)
        self._category_ids = tuple(category_ids)
        self._route = route
        self._rows: list[tuple[str, np.ndarray, bool]] = []
        self._coco: CocoFile | None = None
        self._tracks: TracksFile | None = None
        self._distinct = Distinct()
        self._video: tuple[str, VideoWriter, contextlib.ExitStack] | None = None  # of this sequence
        self._unfinished = contextlib.ExitStack()

    def paths(self, name: str) -> dict[str, pathlib.Path]:
        """Returns the files of an image by kind."""
        return {kind: self._folder / (name + end) for kind, end in _SUFFIXES.items() if kind in self._kinds}

    def check_free(self, sources: Sequence[Source]) -> None:
        """Checks that no result would replace an input, or any other file unless that may be overwritten.

        Raises:
            InputError: naming the first such file.
        """
        self._inputs = [source.path for source in sources]
        inputs = {os.path.realpath(path) for path in self._inputs}
        common = [self._folder / name for name in self._common_files()]
        own = []
        for source in sources:
            files = list(self.paths(source.name).values())
            # The frames of a video go into a folder with its name, if there are files for each.
            own.append([self._folder / source.name] if source.is_video and files else files)
        if "video" in self._kinds:
            own.append([self._video_path(s.place) for s in sources if s.place and s.place.position == 0])
        for path in (*common, *(path for paths in own for path in paths)):
            if os.path.realpath(path) in inputs:
                raise InputError(f"expected --out to be a folder in which no input is overwritten. Received: {path}")
            if os.path.lexists(path) and not self._overwrite:
                raise InputError(
                    "expected --out to be a folder in which nothing is overwritten (--overwrite replaces files). "
                    f"Received: {path}, which exists"
                )

    def _common_files(self) -> list[str]:
        return [name for kind, names in _FILES.items() if kind in self._kinds for name in names]

    def _video_path(self, place: Place) -> pathlib.Path:
        return self._folder / f"{place.sequence}_tracked.mp4"

    def distinct(self) -> Iterator[tuple[str, dict[int, int]]]:
        """Yields each sequence and the number of its distinct objects by class."""
        return self._distinct.rows()

    def _start(self) -> None:
        """Claims the folder, removes the files of an earlier run, and lists the files that all images share."""
        self._manifest.start(overwrite=self._overwrite, keep=self._inputs)
        self._started = True
        self._manifest.add(self._folder / name for name in self._common_files())

    def add(
        self,
        source: Source,
        image: np.ndarray,
        instances: Sequence[Instance],
        *,
        full: bool = False,
        ids: Sequence[int] = (),
    ) -> None:
        """Writes the files of one image.

        Args:
            source: the name of its files, its path in `counts.csv` and in `instances.json`.
            image: (H, W, 3) uint8.
            instances: in predicted order, masks (H, W) bool.
            full: whether there may be more objects, see `rsis_tf.runtime.Instances`.
            ids: the identity of each object, from 1, if the source has a place in a sequence.

        Raises:
            UnusableName: if the path of a result is longer than the file system takes; nothing is then written.
            TooManyObjects: if a label map would not hold the objects; nothing is then written.
            InputError: if a file cannot be written, or another run writes into the folder.
        """
        from rsis_tf.visualization import animation, overlay, sequence_strip, write_image

        found = Instances(instances, size=image.shape[:2])
        place = source.place
        shown = found if place is None else drawn(found, ids)
        paths = self.paths(source.name)
        labels, numbers = numbered(found) if place is None else identified(found, ids)
        if "labels" in paths:
            labels = narrowed(labels, source=source.path, identities=place is not None)
        with _written(self._folder):
            if not self._started:
                self._start()
            for path in paths.values():
                _make_folder(path)
            self._manifest.add(paths.values())
            if "labels" in paths:
                write_image(paths["labels"], labels)
            if "overlay" in paths:
                write_image(paths["overlay"], overlay(image, shown, route=self._route))
            if "strip" in paths:
                write_image(paths["strip"], sequence_strip(image, shown))
            if "animation" in paths:
                animation(paths["animation"], image, shown)
            if place is not None:
                self._add_tracks(place, image, shown, ids)
            if "json" in self._kinds:
                if self._coco is None:
                    partial = self._unfinished.enter_context(replacing(self._folder / "instances.json"))
                    self._coco = CocoFile(partial, self._category_ids)
                self._coco.add(source.below, found, numbers, place=place, track_ids=ids)
        classes = max([len(self._class_names), *(len(instance.class_probs) for instance in found)])
        self._rows.append((str(source.path), np.bincount(found.class_ids, minlength=classes), full))

    def _add_tracks(self, place: Place, image: np.ndarray, shown: Instances, ids: Sequence[int]) -> None:
        """Writes what is known of a frame of a sequence; its objects have their identities as steps."""
        from rsis_tf.visualization import tracked_frame

        count = self._distinct.add(place, shown, ids)
        if "tracks" in self._kinds:
            if self._tracks is None:
                self._tracks = TracksFile(self._unfinished.enter_context(replacing(self._folder / "tracks.csv")))
            self._tracks.add(place, shown, ids)
        if "video" in self._kinds:
            time = "" if place.seconds is None else f" ({place.seconds:.2f} s)"
            caption = f"frame {place.frame}{time}: {len(shown)} objects, {count} distinct so far"
            frame = tracked_frame(image, shown, caption)
            self._writer(place, frame.shape[:2]).add(frame)

    def _writer(self, place: Place, size: tuple[int, int]) -> VideoWriter:
        """Returns the video of a sequence, and completes that of the sequence before."""
        if self._video is None or self._video[0] != place.sequence:
            self._finish_video()
            path = self._video_path(place)
            _make_folder(path)
            self._manifest.add([path])
            stack = contextlib.ExitStack()
            partial = stack.enter_context(replacing(path))
            self._video = place.sequence, VideoWriter(partial, size=size, rate=place.rate or _RATE), stack
        return self._video[1]

    def _finish_video(self) -> None:
        if self._video is not None:
            _, writer, stack = self._video
            self._video = None
            with stack:
                writer.close()

    def __enter__(self) -> "Results":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        try:
            self._finish(kind, error, trace)
        finally:
            self._manifest.close()

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is not None or not self._rows:
            if self._video is not None:
                self._video[1].abandon()
                self._unfinished.push(self._video[2])
            for file in (self._coco, self._tracks):
                with contextlib.suppress(OSError):  # a file on a full disk tries again to write what is in its buffer
                    if file is not None:
                        file.close()
            self._unfinished.__exit__(kind, error, trace)
            return
        classes = max(len(counts) for _, counts, _ in self._rows)
        names = self._class_names or ("background", *(f"class {k}" for k in range(1, classes)))
        with _written(self._folder):
            with self._unfinished:
                self._finish_video()
                if self._coco is not None:
                    self._coco.finish(names)
                if self._tracks is not None:
                    self._tracks.close()
            if "counts" in self._kinds:
                write_counts(self._folder / "counts.csv", names, self._rows)
            if "tracks" in self._kinds:
                write_distinct(self._folder / "distinct.csv", names, self._distinct.rows())


class UnusableName(InputError):
    """A result whose path is longer than the file system takes."""


def _make_folder(path: pathlib.Path) -> None:
    """Makes the folder of a result.

    Raises:
        UnusableName: if the path, or the longer one that is written first, is too long.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.lstat(path.with_name(path.name + 40 * "x"))
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UnusableName(
            f"expected a shorter path for results (choose another --out). Received: {path} ({error.strerror})"
        ) from None


@contextlib.contextmanager
def _written(folder: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except InputError:  # names the file already
        raise
    except OSError as error:
        received = f"{error.filename or folder} ({error.strerror or error})"
        raise InputError(f"expected a folder that can be written to. Received: {received}") from None
