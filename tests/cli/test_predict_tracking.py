"""`rsis predict --track` on encoded videos and folders of images, with a predictor that finds what it is shown."""

import csv
import json

import numpy as np
import pytest
from moving_shapes import NAMES, Mover, instance, line, scene
from PIL import Image
from predict_tools import files_in
from scipy import ndimage

from rsis_tf.batch_prediction import video
from rsis_tf.cli import predict
from rsis_tf.runtime import Instances

SIZE = 64, 96
MOVERS = (
    Mover(path=line((10, 20), (4, 0)), radius=7),
    Mover(path=line((86, 42), (-4, 0)), radius=7, hidden=(6, 7)),
    Mover(path=line((30, 56), (1, 0), first=3), radius=6, class_id=2),
    Mover(path=line((80, 10), (0, 0), first=5, last=5), radius=5),  # flicker
)


class Colours:
    """Finds the connected red parts of an image as discs and the green ones as leaves, the largest first."""

    class_names, category_ids = NAMES, ()

    def __init__(self, path, **options):
        pass

    def stream(self, images):
        for image in images:
            found = []
            for class_id, channel in ((1, 0), (2, 1)):
                parts, count = ndimage.label(image[..., channel] > 127)
                found += [instance(parts == part, class_id) for part in range(1, count + 1)]
            found = [one for one in found if one.area > 20]
            yield Instances(sorted(found, key=lambda one: -one.area), size=image.shape[:2])


def frame(number):
    labels = scene(MOVERS, number, SIZE)
    image = np.zeros((*SIZE, 3), np.uint8)
    for index, mover in enumerate(MOVERS, start=1):
        image[labels == index, mover.class_id - 1] = 220
    return image


def clip(path, frames=14, codec="mpeg4", rate=5):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = SIZE[::-1]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 10**6
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame(number), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def track(run, monkeypatch):
    monkeypatch.setattr(predict, "open_model", Colours)
    return lambda *arguments: run(*arguments, "--track")


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def paths_of(rows):
    """Returns identity → frame → (x, y)."""
    paths = {}
    for row in rows:
        paths.setdefault(int(row["track_id"]), {})[int(row["frame"])] = float(row["x"]), float(row["y"])
    return paths


def test_objects_of_a_video_keep_their_identities(track, tmp_path):
    clip(tmp_path / "clip.mp4")
    code, out, err = track("clip.mp4", "--what", "labels,json,counts,tracks,video")
    assert (code, err) == (0, "")
    assert "clip.mp4: 3 distinct objects: 2 disc, 1 leaf\n" in out
    found = tmp_path / "predictions"
    rows = table(found / "tracks.csv")
    assert list(rows[0]) == "sequence frame time track_id class score area x0 y0 x1 y1 x y".split()
    paths = paths_of(rows)
    assert list(paths) == [1, 2, 3]
    assert {number: len(places) for number, places in paths.items()} == {1: 14, 2: 12, 3: 11}
    for identity, mover in zip((1, 2, 3), MOVERS, strict=False):
        inside = {t: place for t, place in paths[identity].items() if 8 < mover.path(t)[0] < 88}
        expected = [mover.path(t) for t in inside]
        assert np.array(list(inside.values())) == pytest.approx(np.array(expected), abs=1)
    assert {row["class"] for row in rows if row["track_id"] == "3"} == {"leaf"}
    assert [row["time"] for row in rows if row["track_id"] == "1"][:3] == ["0.000", "0.200", "0.400"]
    assert (found / "distinct.csv").read_text() == "sequence,objects,disc,leaf\nclip.mp4,3,2,1\n"
    assert [int(row["objects"]) for row in table(found / "counts.csv")][3:9] == [3, 3, 3, 2, 2, 3]  # without flicker
    for number in (0, 5, 8):
        labels = Image.open(found / f"clip.mp4/{number:06d}_labels.png")
        assert labels.mode == "I;16"
        present = {int(row["track_id"]) for row in rows if int(row["frame"]) == number}
        assert set(np.unique(labels)) == present | {0}
        x, y = paths[2][number]
        assert np.asarray(labels)[int(y), int(x)] == 2
    content = json.loads((found / "instances.json").read_text(encoding="utf-8"))
    assert content["videos"] == [{"id": 1, "name": "clip.mp4"}]
    assert [image["frame_index"] for image in content["images"]] == list(range(14))
    assert len(content["annotations"]) == len(rows)
    assert {one["track_id"] for one in content["annotations"]} == {1, 2, 3}
    assert all(one["label"] == one["track_id"] and one["video_id"] == 1 for one in content["annotations"])
    drawn = list(video.read_frames(found / "clip.mp4_tracked.mp4"))
    assert len(drawn) == 14
    assert len({image.shape for *_, image in drawn}) == 1
    assert [seconds for _, seconds, _ in drawn][:3] == pytest.approx([0, 0.2, 0.4])
    assert {"clip.mp4_tracked.mp4", "tracks.csv", "distinct.csv"} <= set((found / "results.txt").read_text().split())


def test_the_first_frame_is_at_0_seconds_in_formats_that_begin_later(track, tmp_path):
    av = pytest.importorskip("av")
    clip(tmp_path / "clip.mpg", codec="mpeg1video", rate=25)
    with av.open(str(tmp_path / "clip.mpg")) as container:
        assert container.streams.video[0].start_time > 0
    assert track("clip.mpg", "--what", "tracks")[0] == 0
    times = sorted({float(row["time"]) for row in table(tmp_path / "predictions/tracks.csv")})
    assert times[:3] == pytest.approx([0, 0.04, 0.08], abs=1e-3)


def test_tables_of_a_video_may_lie_beside_it(track, tmp_path):
    clip(tmp_path / "clip.mp4")
    code, _, err = track("clip.mp4", "--what", "tracks,counts", "--out", ".")
    assert (code, err) == (0, "")
    code, _, err = track("clip.mp4", "--what", "labels", "--out", ".", "--overwrite")
    assert code == 2
    assert "no input is overwritten. Received: clip.mp4" in err


def test_every_nth_frame_is_tracked_as_well(track, tmp_path):
    clip(tmp_path / "clip.mp4")
    assert track("clip.mp4", "--every", "2", "--what", "tracks,video")[0] == 0
    paths = paths_of(table(tmp_path / "predictions/tracks.csv"))
    assert {number: list(places)[:3] for number, places in paths.items()} == {1: [0, 2, 4], 2: [0, 2, 4], 3: [4, 6, 8]}
    assert files_in(tmp_path / "predictions") == ["clip.mp4_tracked.mp4", "distinct.csv", "results.txt", "tracks.csv"]


def test_damaged_frames_are_reported_and_the_tracks_go_on(track, tmp_path):
    av = pytest.importorskip("av")
    path = clip(tmp_path / "clip.avi", codec="mjpeg")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    for number in (9, 10):
        content = content.replace(packets[number], bytes(len(packets[number])))
    path.write_bytes(content)
    code, out, err = track("clip.avi", "--what", "tracks")
    assert code == 2
    assert err.count("\n") == 1
    assert "error: expected a video without damage. Received: clip.avi, 2 of whose 14 frames cannot be read" in err
    assert "clip.avi: 3 distinct objects" in out
    paths = paths_of(table(tmp_path / "predictions/tracks.csv"))
    assert list(paths[1]) == [*range(9), 11, 12, 13]


def test_images_of_each_folder_are_a_sequence(track, tmp_path):
    for folder, frames in (("first", 6), ("second", 5)):
        (tmp_path / folder).mkdir()
        for number in range(frames):
            Image.fromarray(frame(number + frames)).save(tmp_path / folder / f"{number:02d}.png")
    (tmp_path / "first/03.png").write_bytes(b"damaged")
    code, out, _ = track("first", "second", "--what", "tracks,video")
    assert code == 2
    assert "first: 3 distinct objects: 2 disc, 1 leaf\n" in out
    rows = table(tmp_path / "predictions/tracks.csv")
    assert {row["sequence"] for row in rows} == {"first", "second"}
    assert sorted({row["frame"] for row in rows if row["sequence"] == "first"}) == ["0", "1", "2", "4", "5"]
    assert {row["track_id"] for row in rows if row["sequence"] == "second"} == {"1", "2", "3"}
    assert {row["time"] for row in rows} == {""}
    pytest.importorskip("av")
    videos = [name for name in files_in(tmp_path / "predictions") if name.endswith(".mp4")]
    assert videos == ["first/00_tracked.mp4", "second/00_tracked.mp4"]


def test_options_of_tracking(track, run, tmp_path):
    clip(tmp_path / "clip.mp4")
    assert "5 distinct objects: 4 disc" in track("clip.mp4", "--what", "tracks", "--track-confirm", "1",
                                               "--track-memory", "1")[1]  # fmt: skip
    for arguments, received in (
        (["--track-memory", "3"], "--track-memory without it"),
        (["--what", "tracks"], "tracks without it"),
        (["--what", "labels,video"], "labels, video without it"),
        (["--track", "--track-confirm", "0"], "0"),
        (["--track", "--track-memory", "-1"], "-1"),
    ):
        code, _, err = run("clip.mp4", "--overwrite", *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert f"Received: {received}" in err


def test_a_video_is_not_replaced_without_being_asked(track, tmp_path):
    clip(tmp_path / "clip.mp4")
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions/clip.mp4_tracked.mp4").write_bytes(b"mine")
    code, _, err = track("clip.mp4")
    assert code == 2
    assert "clip.mp4_tracked.mp4, which exists" in err
    assert (tmp_path / "predictions/clip.mp4_tracked.mp4").read_bytes() == b"mine"


def test_an_interrupted_run_leaves_no_partial_video(track, tmp_path, monkeypatch):
    clip(tmp_path / "clip.mp4")

    class Failing(Colours):
        def stream(self, images):
            yield from (found for found, _ in zip(super().stream(images), range(6), strict=False))
            raise KeyboardInterrupt

    monkeypatch.setattr(predict, "open_model", Failing)
    code, *_ = track("clip.mp4", "--what", "tracks,video")
    assert code == 130
    assert files_in(tmp_path / "predictions") == ["results.txt"]


def test_a_video_of_odd_sides_takes_frames_of_another_size(tmp_path):
    pytest.importorskip("av")
    writer = video.VideoWriter(tmp_path / "out.mp4", size=(63, 95), rate=12.5)
    for size in ((63, 95), (40, 40)):
        writer.add(np.full((*size, 3), 180, np.uint8))
    writer.close()
    frames = list(video.read_frames(tmp_path / "out.mp4"))
    assert [(image.shape, round(seconds, 3)) for _, seconds, image in frames] == [((64, 96, 3), 0), ((64, 96, 3), 0.08)]
    assert [image.mean() for *_, image in frames] == pytest.approx([180, 180], abs=3)
    assert video.frame_rate(tmp_path / "out.mp4") == 12.5


def test_a_video_of_images_needs_pyav(track, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    Image.fromarray(frame(0)).save(tmp_path / "a.png")
    code, _, err = track("a.png")
    assert code == 2
    assert err.startswith('error: writing videos needs PyAV: pip install "rsis_tf[video]". Received: ')
    assert track("a.png", "--what", "tracks")[0] == 0
