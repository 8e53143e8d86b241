"""Large images: tiles cover them, and each object is returned once and whole, whatever the borders cut."""

import itertools

import numpy as np
import pytest
from exact_predictor import ExactPredictor, blobs, compared, image_of

from rsis_tf.runtime import InputError, Instances
from rsis_tf.tiles import Piece, Tile, grid, merge, quarters


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 64), (100, 300), (257, 63)])
@pytest.mark.parametrize("overlap", [0, 16, 40])
def test_tiles_cover_the_image_with_the_overlap(size, overlap):
    tiles = grid(size, (64, 64), overlap)
    seen = np.zeros(size, int)
    for tile in tiles:
        x0, y0, x1, y1 = tile.box
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]
        assert (y1 - y0, x1 - x0) == (min(64, size[0]), min(64, size[1]))
        seen[y0:y1, x0:x1] += 1
        assert tile.cut(np.full((*size, 3), 9, np.uint8)).shape == (64, 64, 3)
    assert (seen > 0).all()
    for axis in (0, 1):
        starts = sorted({tile.box[axis] for tile in tiles})
        assert all(b - a <= 64 - overlap for a, b in itertools.pairwise(starts))


def test_quarters_cover_a_tile_at_the_same_scale():
    tile = Tile(box=(30, 40, 94, 104), frame=(64, 64))
    parts = quarters(tile, 16)
    assert [part.box for part in parts] == [(30, 40, 70, 80), (54, 40, 94, 80), (30, 64, 70, 104), (54, 64, 94, 104)]
    cut = parts[0].cut(np.full((200, 200, 3), 9, np.uint8))
    assert cut.shape == (64, 64, 3)
    assert (cut[:40, :40] == 9).all()
    assert not cut[40:].any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("side", "count", "radii", "overlap"),
    [
        (230, 40, (3, 6), 16),  # objects smaller than the overlap
        (230, 16, (10, 22), 16),  # some are larger than the overlap, and some than half a tile
        (230, 16, (8, 16), 40),
        (50, 6, (3, 6), 16),  # the image is smaller than a tile
    ],
)
def test_every_object_is_found_once_to_the_pixel(side, count, radii, overlap, seed):
    labels = blobs(side, count, radii=radii, seed=seed)
    found = ExactPredictor(tile=64, tile_overlap=overlap, batch_size=5)(image_of(labels))
    assert compared(labels, found) == {"exact": count, "missing": 0, "surplus": 0}
    assert [instance.step for instance in found] == list(range(count))
    np.testing.assert_array_equal(found.to_label_map() > 0, labels > 0)
    assert not found.full


def test_tiles_of_another_size_are_resized_to_that_of_the_network():
    labels = np.kron(blobs(100, 12, radii=(3, 6)), np.ones((2, 2), np.int32))
    found = ExactPredictor(tile=(128, 128), tile_overlap=32)(image_of(labels))
    assert len(found) == 12
    agreement = (found.to_label_map() > 0) == (labels > 0)
    assert agreement.mean() > 0.99


def test_a_tile_with_too_many_objects_is_divided():
    labels = blobs(64, 24, radii=(2, 3.5))
    image = image_of(labels)
    whole = ExactPredictor(most=10)(image)
    assert (len(whole), whole.full) == (10, True)
    predictor = ExactPredictor(most=10, tile="auto")
    found = predictor(image)
    assert compared(labels, found) == {"exact": 24, "missing": 0, "surplus": 0}
    assert not found.full
    assert predictor.seen > 1
    still = ExactPredictor(most=2, tile="auto")(image)  # dividing a tile twice is not enough
    assert still.full
    assert still[:1].full


def test_images_of_a_stream_share_runs_and_keep_their_order():
    images = [image_of(blobs(side, 5, radii=(3, 5), seed=side)) for side in (60, 130, 64)]
    predictor = ExactPredictor(tile="auto", batch_size=4)
    assert [len(found) for found in predictor.stream(iter(images))] == [5, 5, 5]
    assert [found.size for found in predictor.batch(images)] == [(60, 60), (130, 130), (64, 64)]


def _piece(tile: int, x0: int, y0: int, x1: int, y1: int) -> Piece:
    return Piece(mask=np.ones((y1 - y0, x1 - x0), bool), corner=(x0, y0), tile=tile, source=f"{tile}: {x0}")


ROW = grid((64, 112), (64, 64), 16)
"""Two tiles, of the columns 0 to 64 and 48 to 112."""


@pytest.mark.parametrize(
    ("pieces", "sources"),
    [
        ([_piece(0, 50, 9, 58, 20), _piece(1, 51, 9, 58, 20)], ["0: 50"]),  # both whole: the rule is symmetric …
        ([_piece(0, 54, 9, 62, 20), _piece(1, 54, 9, 61, 20)], ["1: 54"]),  # … and prefers the one farther from borders
        ([_piece(0, 40, 9, 56, 20), _piece(1, 48, 9, 56, 20)], ["0: 40"]),  # cut in tile 1, whole in tile 0
        ([_piece(1, 48, 30, 52, 36)], []),  # cut in tile 1; tile 0 shows the whole object and found none
        ([_piece(0, 9, 9, 20, 20), _piece(0, 10, 9, 20, 20)], ["0: 9", "0: 10"]),  # within a tile nothing is dropped
        ([_piece(0, 50, 9, 60, 13), _piece(1, 52, 11, 62, 20)], ["0: 50", "1: 52"]),  # neighbours that share a little
        ([_piece(0, 30, 9, 64, 20), _piece(1, 48, 30, 90, 40)], ["0: 30", "1: 48"]),  # two large ones that differ
    ],
)
def test_the_rule_of_merging(pieces, sources):
    assert [piece.source for piece in merge(pieces, ROW, (64, 112))] == sources


def test_parts_of_an_object_larger_than_the_overlap_are_joined():
    (joined,) = merge([_piece(0, 20, 9, 64, 20), _piece(1, 48, 10, 100, 21)], ROW, (64, 112))
    assert joined.box == (20, 9, 100, 21)
    assert joined.source == "1: 48"  # the larger part
    assert joined.mask.sum() == 44 * 11 + 52 * 11 - 16 * 10


def test_nothing_gives_nothing():
    assert merge([], ROW, (64, 112)) == []
    found = ExactPredictor(tile="auto")(np.zeros((70, 200, 3), np.uint8))
    assert isinstance(found, Instances)
    assert (len(found), found.size) == (0, (70, 200))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 0}, r"tile must be two positive integers .*Received: \(0, 0\)"),
        ({"tile": "large"}, r"tile must be two .*Received: 'large'"),
        ({"tile": True}, r"Received: True"),
        ({"tile": 64, "tile_overlap": 64}, r"tile_overlap must be below the tile, \(64, 64\)\. Received: 64"),
        ({"tile": 64, "tile_overlap": -1}, r"tile_overlap must be a number of pixels, with tile\. Received: -1"),
        ({"tile_overlap": 4}, r"with tile\. Received: 4"),
        ({"steps": 30}, r"its own number of steps .*Received: steps=30"),
        ({"flips": 1}, r"flips must be True or False\. Received: 1"),
    ],
)
def test_options_that_cannot_be_used_are_named(options, message):
    with pytest.raises(InputError, match=message):
        ExactPredictor(**options)


@pytest.mark.slow
def test_three_thousand_objects_in_a_large_image():
    labels = blobs(4000, 3000, radii=(6, 16))
    found = ExactPredictor(side=256, tile="auto")(image_of(labels))
    assert compared(labels, found) == {"exact": 3000, "missing": 0, "surplus": 0}
    assert sum(instance.cropped.crop.nbytes for instance in found) < 4e6
