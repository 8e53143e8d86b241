"""`rsis serving`: adds an export to the model repository of an inference server."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    from export import serving

    serving.main(argv, prog="rsis serving")


if __name__ == "__main__":
    main()
