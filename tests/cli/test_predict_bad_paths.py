"""`rsis predict`: one bad path is one reported failure; everything else is done, and the exit code is 2."""

import csv
import os
import pathlib
import struct
import sys

import numpy as np
import pytest
from PIL import Image
from predict_tools import NAMES, Thresholds, draw, files_in, instance

from rsis_tf.batch_prediction import sources, video
from rsis_tf.batch_prediction.results import Results
from rsis_tf.batch_prediction.sources import find_sources
from rsis_tf.cli.predict import make_parser
from rsis_tf.errors import InputError
from rsis_tf.images import read_image

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")


def rows(folder):
    with (folder / "counts.csv").open(errors="surrogateescape", newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def clip(path, *, frames=8, options=None):
    """Writes a video of 64 × 48 pixels, every frame a key frame."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("mpeg4", rate=5, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        noise = np.random.default_rng(0)
        for _ in range(frames):
            frame = noise.integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@linux
def test_every_bad_path_is_one_failure_and_the_rest_is_done(run, tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    for name in ("pipe.png", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
    bad = [
        *("self.png", "broken.mp4", "list.mp4", "pipe.png", "pipe.mp4", "http://127.0.0.1:9/clip.mp4"),
        "rtsp://127.0.0.1/x.png",
        *(
            "n" * 300 + ".png",
            "a.png/b.png",
            os.fsdecode(b"gone-\xff.png"),
            os.fsdecode(b"gone-\xff.mp4"),
            "\x1b[2J.png",
        ),
    ]
    code, out, err = run("a.png", *bad, "b.png")
    assert code == 2
    lines = err.splitlines()
    assert len(lines) == len(bad)
    assert all(line.startswith("error: expected ") and ". Received: " in line for line in lines)
    assert "\x1b" not in err + out
    assert r"\x1b[2J.png" in lines[-1]
    assert "of 2 images\nskipped 12 paths: " in out
    assert rows(tmp_path / "predictions") == ["a.png", "b.png"]


def test_an_empty_path_is_not_the_current_folder(run, tmp_path, monkeypatch, capsys):
    draw(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert [source.problem for source in find_sources([""], out=tmp_path / "out")] == ["expected a path. Received: ''"]
    with pytest.raises(SystemExit) as end:
        make_parser().parse_args(["model.onnx", "a.png", "--out", ""])
    assert end.value.code == 2
    assert "expected a folder. Received: ''" in capsys.readouterr().err


def test_an_address_is_never_opened(run, tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    draw(tmp_path / "a.png")
    monkeypatch.setattr(av, "open", lambda *arguments, **options: pytest.fail("opened"))
    code, _, err = run("http://127.0.0.1:9/clip.mp4", "a.png")
    assert code == 2
    assert err == "error: expected a path (download the file first). Received: http://127.0.0.1:9/clip.mp4\n"


def test_frames_before_the_damage_of_a_video_are_kept(run, tmp_path, monkeypatch):
    clip(tmp_path / "clip.mp4")
    draw(tmp_path / "a.png")
    opened = video._opened

    def damaged(path):
        """A container whose fifth frame cannot be converted: PyAV raises a ValueError, not one of FFmpeg's errors."""
        import contextlib
        import types

        @contextlib.contextmanager
        def open_file():
            with opened(path) as container:

                def demux(stream):
                    for number, packet in enumerate(container.demux(stream)):
                        if number == 4:
                            raise ValueError("Conversion to numpy array\nwith format is not supported")
                        yield packet

                yield types.SimpleNamespace(streams=container.streams, demux=demux)

        return open_file()

    monkeypatch.setattr(video, "_opened", damaged)
    code, _, err = run("clip.mp4", "a.png")
    assert code == 2
    assert err.count("\n") == 1
    assert "clip.mp4, after 4 frames (Conversion to numpy array)" in err
    assert rows(tmp_path / "predictions") == [*(f"clip.mp4/00000{number}" for number in range(4)), "a.png"]


def test_a_video_cut_in_the_middle_keeps_its_first_frames(tmp_path):
    path = clip(tmp_path / "clip.mkv")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    frames = []
    try:
        for number, *_ in video.read_frames(path):
            frames.append(number)
    except InputError:
        pass
    assert 3 <= len(frames) < 8
    assert frames == list(range(len(frames)))


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mov", ".mp4"])
def test_a_video_whose_end_is_missing_is_reported_after_its_frames(tmp_path, suffix):
    """FFmpeg reads a download that stopped, with the header in front, as a shorter video without an error."""
    path = clip(tmp_path / f"clip{suffix}", options={"movflags": "faststart"} if suffix in (".mov", ".mp4") else {})
    assert len(list(video.read_frames(path))) == 8
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames = []
    message = r"expected a whole video\. Received: .* after \d frames, at second 0\.\d of 1\.6$"
    with pytest.raises(InputError, match=message):
        frames.extend(number for number, *_ in video.read_frames(path))
    assert 2 <= len(frames) <= 4


def test_a_video_that_was_shortened_without_rewriting_it_is_whole(tmp_path):
    path = clip(tmp_path / "clip.mp4")
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 12  # after version, flags and count (ISO/IEC 14496-12, 8.6.6): the duration
    assert struct.unpack_from(">I", content, place) == (1600,)
    struct.pack_into(">I", content, place, 600)
    path.write_bytes(content)
    assert [number for number, *_ in video.read_frames(path)] == [0, 1, 2]


@pytest.mark.parametrize("suffix", sources.VIDEO_SUFFIXES)
def test_every_suffix_of_a_video_is_read(tmp_path, suffix):
    av = pytest.importorskip("av")
    codec = {".webm": "libvpx", ".mpeg": "mpeg2video", ".mpg": "mpeg1video"}.get(suffix, "mpeg4")
    with av.open(str(tmp_path / f"clip{suffix}"), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in (50, 200):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = [frame.mean() for *_, frame in video.read_frames(tmp_path / f"clip{suffix}")]
    assert frames == pytest.approx([50, 200], abs=8)


def test_a_video_of_an_absurd_size_is_refused_before_its_frames_fill_the_memory(tmp_path):
    """An uncompressed AVI file by Microsoft's specification, whose header claims 30,000 × 30,000 pixels."""
    pytest.importorskip("av")

    def chunk(name, content, kind=b""):
        content = kind + content
        return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    side = 30_000
    main = struct.pack("<14I", 200_000, 0, 0, 0x10, 1, 0, 1, 0, side, side, 0, 0, 0, 0)
    stream = struct.pack("<4s4sIHHIIIIIIII4H", b"vids", b"MJPG", 0, 0, 0, 0, 1, 5, 0, 1, 0, 0, 0, 0, 0, side, side)
    bitmap = struct.pack("<IiiHH4sIiiII", 40, side, side, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    head = chunk(b"avih", main) + chunk(b"LIST", chunk(b"strh", stream) + chunk(b"strf", bitmap), b"strl")
    jpeg = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\1\x11\0\xff\xd9"
    movie = chunk(b"LIST", chunk(b"00dc", jpeg), b"movi")
    path = tmp_path / "clip.avi"
    path.write_bytes(chunk(b"RIFF", chunk(b"LIST", head, b"hdrl") + movie, b"AVI "))
    with pytest.raises(InputError, match=r"expected a video that can be read\. Received: .*clip\.avi"):
        list(video.read_frames(path))


@linux
def test_names_near_the_limit_of_the_file_system_are_cut_and_stay_different(run, tmp_path):
    long = "n" * 240
    for name in (f"{long}1.png", f"{long}2.png", "é" * 120 + ".png", "short.png"):
        draw(tmp_path / "photos" / name)
    code, out, err = run("photos", "--what", "labels,overlay,strip,animation,json,counts")
    assert (code, err) == (0, "")
    assert out.count("long names are cut to 200 bytes and end in a hash: ") == 1
    written = [name for name in files_in(tmp_path / "predictions") if name.endswith("_labels.png")]
    assert len(written) == 4
    assert max(len(os.fsencode(name)) for name in written) <= 211
    assert sum(name.startswith("n" * 150) and "~" in name for name in written) == 2
    assert sorted(rows(tmp_path / "predictions")) == sorted(
        f"photos/{path.name}" for path in (tmp_path / "photos").iterdir()
    )
    assert run("photos/short.png", "--what", "labels", "--overwrite")[0] == 0
    assert files_in(tmp_path / "predictions") == ["results.txt", "short_labels.png"]


@linux
def test_names_of_dots_alone_keep_their_suffix(run, tmp_path):
    for name in ("..png", "...png", ".png", "a.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name, format="PNG")
    code, out, err = run("..png", "...png", "a.png", "--what", "labels,counts")
    assert (code, err) == (0, "")
    assert "share a name" not in out
    written = files_in(tmp_path / "predictions")
    assert written == ["...png_labels.png", "..png_labels.png", "a_labels.png", "counts.csv", "results.txt"]


@linux
def test_a_path_longer_than_the_system_takes_fails_alone(run, tmp_path, monkeypatch):
    """Two images share a name, so their results lie in folders as deep as the images': below --out that is too deep."""
    draw(tmp_path / "photos/x.png")
    deep = "/".join(["d" * 200] * 18)
    monkeypatch.chdir(tmp_path / "photos")
    for part in deep.split("/"):
        os.mkdir(part)
        os.chdir(part)
    (pathlib.Path("x.png")).write_bytes((tmp_path / "photos/x.png").read_bytes())
    os.chdir(tmp_path)
    out = "/".join(["o" * 200] * 3)
    code, printed, err = run("photos", "--out", out)
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("error: expected a shorter path for results (choose another --out). Received: ")
    assert "of 1 image\n" in printed
    assert rows(tmp_path / out) == ["photos/x.png"]


@linux
def test_links_that_lead_in_a_circle_end(run, tmp_path):
    draw(tmp_path / "photos/a.png")
    draw(tmp_path / "photos/below/b.png")
    for name in ("one", "two", "below/up", "below/here"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos/itself").symlink_to("itself")
    for asked in ("photos/**/*.png", "photos/**"):
        assert [source.path.name for source in find_sources([asked], out=tmp_path / "x")][:2] == ["a.png", "b.png"]
    code, _, err = run("photos")
    assert code == 2
    assert err == "error: expected an image or a video (by its suffix). Received: photos/itself\n"
    assert rows(tmp_path / "predictions") == ["photos/a.png", "photos/below/b.png"]


def test_patterns_match_what_glob_matches(tmp_path, monkeypatch):
    import glob

    for name in ("a.png", "b.tif", "p/c.png", "p/q/d.png", "p/.h/e.png", ".f.png", "p/q/r/g.png", "p[1]/i.png"):
        draw(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for pattern in (
        *("*.png", "**/*.png", "p/**", "**", "*/*.png", "./p/**/[cd].png", "p/*/d.png", ".*.png", "p/.h/*.png"),
        *("p[[]1]/*.png", "**/q/*.png", "p/../*.png", f"{tmp_path}/**/*.png", "**/q/**/*.png", "**/d.png"),
    ):
        wanted = sorted(
            {str(pathlib.Path(path)) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)}
        )
        found = [str(source.path) for source in find_sources([pattern], out=tmp_path / "x")]
        assert found == wanted, pattern


def test_a_folder_that_cannot_be_read_is_reported(run, tmp_path, monkeypatch):
    draw(tmp_path / "photos/a.png")
    draw(tmp_path / "photos/locked/b.png")
    scan = os.scandir

    def refuse(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for asked in ("photos", "photos/**/*.png"):
        code, _, err = run(asked, "--out", f"found-{len(asked)}")
        assert code == 2
        assert err == "error: expected a folder that can be read. Received: photos/locked (Permission denied)\n"
        assert rows(tmp_path / f"found-{len(asked)}") == ["photos/a.png"]


def test_an_unexpected_failure_of_a_reader_or_a_drawing_costs_one_image(run, tmp_path, monkeypatch):
    from rsis_tf.batch_prediction import run as module

    for name in ("a.png", "b.png", "c.png"):
        draw(tmp_path / name)
    read, drawn = module.read_image, Results.add

    def fail_reading(path):
        if path.name == "a.png":
            raise MemoryError
        return read(path)

    def fail_drawing(self, source, image, instances, **options):
        if source.name == "b":
            raise ValueError("image is too large\nfor this format")
        drawn(self, source, image, instances, **options)

    monkeypatch.setattr(module, "read_image", fail_reading)
    monkeypatch.setattr(Results, "add", fail_drawing)
    code, _, err = run("a.png", "b.png", "c.png")
    assert code == 2
    assert err.splitlines() == [
        "error: expected an image file that can be read. Received: a.png (MemoryError)",
        "error: expected an image whose results can be written. Received: b.png (image is too large)",
    ]
    assert rows(tmp_path / "predictions") == ["c.png"]


def test_control_characters_of_class_names_do_not_reach_the_terminal(run, tmp_path, monkeypatch):
    draw(tmp_path / "a.png")
    wild = tuple(f"{name}\x1b[31m\r\n\u202e" for name in NAMES)
    monkeypatch.setattr(Thresholds, "class_names", wild)
    monkeypatch.setattr("predict_tools.NAMES", wild)
    code, out, _ = run("a.png", "--what", "all")
    assert code == 0
    assert r"bright\x1b[31m\r\n\u202e 0.75" in out
    assert not {"\x1b", "\r", "\u202e"} & set(out)


def test_two_runs_never_write_into_one_folder(tmp_path):
    (source,) = find_sources(["a.png"], out=tmp_path)
    image = np.zeros((4, 4, 3), np.uint8)

    def results(**options):
        return Results(tmp_path / "found", kinds=["labels", "counts"], class_names=NAMES, **options)

    with results() as first, results() as second, results(overwrite=True) as third:
        first.add(source, image, [instance(np.eye(4))])
        for other in (second, third, results(overwrite=True)):
            with pytest.raises(InputError, match=r"expected a folder for the results of one run\. Received: .*found"):
                other.add(source, image, [])
    assert files_in(tmp_path / "found") == ["a_labels.png", "counts.csv", "results.txt"]
    assert np.asarray(Image.open(tmp_path / "found/a_labels.png")).max() == 1
    with results(overwrite=True) as later:  # the first run has ended
        later.add(source, image, [])
    assert np.asarray(Image.open(tmp_path / "found/a_labels.png")).max() == 0


@linux
def test_a_list_of_results_does_not_lead_through_links(run, tmp_path):
    draw(tmp_path / "a.png")
    run("a.png", "--out", "found")
    draw(tmp_path / "elsewhere/victim.png")
    (tmp_path / "found/link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with (tmp_path / "found/results.txt").open("a") as file:
        file.write("link/victim.png\n")
    assert run("a.png", "--out", "found", "--overwrite")[0] == 0
    assert (tmp_path / "elsewhere/victim.png").exists()


def test_warnings_of_pillow_are_notes_of_the_file(run, tmp_path):
    """A palette with transparency is read silently; EXIF data that is cut off is a note."""
    colours = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(colours, "P")
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "palette.png", transparency=bytes(range(0, 120, 10)))
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0"
    Image.new("RGB", (4, 3)).save(tmp_path / "exif.jpg", exif=exif)
    code, out, err = run("palette.png", "exif.jpg")
    assert (code, err) == (0, "")
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    assert [line[:16] for line in notes] == ["note: exif.jpg: "] * len(notes)
    assert notes
    assert np.array_equal(read_image(tmp_path / "palette.png"), palette[colours])
