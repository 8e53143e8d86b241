"""`rsis benchmark`: measures model files."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    from export import benchmark

    benchmark.main(argv, prog="rsis benchmark")


if __name__ == "__main__":
    main()
