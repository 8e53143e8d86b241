"""`rsis sbd`: merges Pascal VOC 2012 and SBD into one dataset."""

from collections.abc import Sequence

from rsis_tf.data.readers.sbd import merge
from rsis_tf.errors import ArgumentParser, command_line


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = ArgumentParser(
        prog="rsis sbd",
        description="Merges Pascal VOC 2012 and SBD into one dataset in VOC's layout. Images are linked, not copied.",
        epilog="example:\n  rsis sbd --voc VOCdevkit/VOC2012 --sbd benchmark_RELEASE/dataset --out VOCplus\n"
        "  rsis train --dataset voc --data VOCplus",
    )
    parser.add_argument("--voc", required=True, metavar="DIR", help="the folder VOC2012")
    parser.add_argument("--sbd", required=True, metavar="DIR", help="SBD's folder benchmark_RELEASE/dataset")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to create; it must not exist")
    parser.add_argument(
        "--val-share", type=float, default=0.1, metavar="P", help="share of the images for validation (default: 0.1)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the split (default: 0)")
    options = parser.parse_args(argv)
    with command_line():
        sizes = merge(
            voc_root=options.voc, sbd_root=options.sbd, out=options.out, val_share=options.val_share, seed=options.seed
        )
        print(f"{options.out}: " + ", ".join(f"{size} {split}" for split, size in sizes.items()))


if __name__ == "__main__":
    main()
