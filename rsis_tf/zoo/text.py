"""Cards as text: the table of `rsis zoo` and of docs/models.md, and one card in words."""

import textwrap
from collections.abc import Sequence

from rsis_tf.zoo.card import SHOWN, Card, CardScore

HEADER = ("name", "finds", "size", "AP50", "SBD", "|DiC|", "licence")
_WIDTH = 100


def row(card: Card) -> tuple[str, ...]:
    """Returns the cells of a model, in the order of `HEADER`."""
    scores = (f"{card.measured.scores[name].value:.2f}" for name in ("ap50", "sbd", "abs_dic"))
    return (card.name, card.finds, f"{card.size / 1e6:.1f} MB", *scores, card.license)


def plain_table(cards: Sequence[Card]) -> str:
    """Returns the models as a table for the screen."""
    rows = [HEADER, *map(row, cards)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows
    )


def markdown(cards: Sequence[Card]) -> str:
    """Returns the models as a table, and each card as a section, in Markdown."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in HEADER)} |", "|---" * len(HEADER) + "|"]
    lines += [f"| {' | '.join((f'`{cells[0]}`', *cells[1:]))} |" for cells in map(row, cards)]
    for card in cards:
        lines += ["", f"## `{card.name}`", ""]
        for title, text in facts(card):
            lines.append(f"- {title}: {_code(title, text)}")
        lines += ["", "| score | value | 95 % interval over images | trainings |", "|---|---|---|---|"]
        for name, score in card.measured.scores.items():
            title = SHOWN[name].replace("|", "\\|")
            lines.append(f"| {title} | {score.value:.3f} | {score.low:.3f} to {score.high:.3f} | {_spread(score)} |")
    return "\n".join(lines) + "\n"


def words(card: Card) -> str:
    """Returns a card as plain text for the screen."""
    pairs = [*facts(card)]
    pairs += [
        (SHOWN[name], f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f}); trainings: {_spread(score)}")
        for name, score in card.measured.scores.items()
    ]
    width = max(len(title) for title, _ in pairs)
    lines = [f"{card.name}: rsis predict {card.name} IMAGE", ""]
    for title, text in pairs:
        wrapped = textwrap.wrap(text, _WIDTH - width - 4, break_long_words=False, break_on_hyphens=False)
        lines += [f"  {title if not i else '':<{width}}  {line}" for i, line in enumerate(wrapped)]
    return "\n".join(lines)


def facts(card: Card) -> list[tuple[str, str]]:
    """Returns (title, text) pairs of everything except the scores."""
    measured, height, width = card.measured, *card.image_size
    return [
        ("finds", card.finds),
        ("classes", ", ".join(card.class_names[1:])),
        ("limits", "; ".join(card.limits)),
        ("must not be used for", "; ".join(card.not_for)),
        ("network", f"encoder {card.encoder}, {card.parameters:,} parameters, {height}×{width} pixels"),
        ("objects", f"at most {card.num_steps} in an image"),
        ("data", f"{card.data}; {card.data_license}"),
        ("licence of the weights", card.license),
        ("training command", card.command),
        ("seeds", f"{', '.join(map(str, card.seeds))}; the files hold seed {card.seed}: {card.choice}"),
        ("version", card.version),
        ("time of an image", f"{card.speed.milliseconds:.0f} ms with one thread, {card.speed.machine}"),
        ("command for the time", card.speed.command),
        ("scores on", f"{measured.images} images with {measured.objects} objects, split {measured.split}"),
        ("command for the scores", measured.command),
        ("files", ", ".join(f"{name} ({file.bytes / 1e6:.1f} MB)" for name, file in card.files.items())),
    ]


def _code(title: str, text: str) -> str:
    return f"`{text}`" if "command" in title else text


def _spread(score: CardScore) -> str:
    """Returns mean, standard deviation and range over the trainings, or the one value."""
    if score.deviation is None:
        return f"{score.mean:.3f} (one)"
    ends = f"{min(score.seeds):.3f} to {max(score.seeds):.3f}"
    return f"{score.mean:.3f} ± {score.deviation:.3f} ({ends}, {len(score.seeds)} seeds)"
