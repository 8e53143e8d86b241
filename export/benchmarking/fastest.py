"""Names the file that was fastest in a benchmark, and the fastest one that finds the instances of the first file."""

from collections.abc import Sequence

from export.benchmarking.rows import Row

SAME = 0.999
"""Agreement from which two files find the same instances; a pixel of a mask may lie on the threshold."""


def fastest(rows: Sequence[Row]) -> list[str]:
    """Returns the lines to print: the row with the least time of an image, and that with the same instances.

    The second line is missing if it would name the same row.

    Args:
        rows: from `export.benchmarking.rows.benchmark`; those with an error are left out.
    """
    measured = sorted((row for row in rows if "error" not in row), key=_per_image)
    lines = [f"fastest here: {_named(measured[0])}"] if measured else []
    same = [row for row in measured if row["agreement"] >= SAME]
    if same and same[0] is not measured[0]:
        lines.append(f"fastest here with the instances of the first file: {_named(same[0])}")
    return lines


def _per_image(row: Row) -> float:
    return row["median_ms"] / row["batch"]


def _named(row: Row) -> str:
    return (
        f"{row['file']} ({row['provider']}, batch {row['batch']}), {_per_image(row):.1f} ms per image, "
        f"agreement {row['agreement']:.3f}"
    )
