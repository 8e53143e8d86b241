"""`rsis zoo`: lists the trained models of the package."""

import dataclasses
import json
from collections.abc import Sequence

from rsis_tf.errors import ArgumentParser, command_line
from rsis_tf.zoo.card import read_card, read_cards
from rsis_tf.zoo.text import plain_table, words

_EPILOG = """examples:
  rsis zoo
      a table of all models
  rsis zoo shapes
      what the model finds, how it was trained, its scores, limits and licence
  rsis predict shapes photos
      the name stands for the path of a model in every command

A model or a run of yours in the current folder comes before a model of the package that has the same name. Other
files and folders do not: a folder `nuclei` with images does not hide the model `nuclei`.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = ArgumentParser(
        prog="rsis zoo", description="Lists the trained models that are part of the package.", epilog=_EPILOG
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="show the card of this model")
    parser.add_argument("--json", action="store_true", help="print the card, or a list of all cards, as JSON")
    arguments = parser.parse_args(argv)
    with command_line():
        cards = [read_card(arguments.name)] if arguments.name else read_cards()
        if arguments.json:
            values = [dataclasses.asdict(card) for card in cards]
            print(json.dumps(values[0] if arguments.name else values, indent=2, ensure_ascii=False))
        elif arguments.name:
            print(words(cards[0]))
        else:
            print(plain_table(cards))


if __name__ == "__main__":
    main()
