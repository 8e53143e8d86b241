"""Strings in protobuf's text format, in which the configuration files of model servers are written.

Source: https://protobuf.dev/reference/protobuf/textformat-spec/#string
"""


def quoted(text: str) -> str:
    """Returns a string literal that every parser of the format reads as the text.

    Quotation marks, backslashes and everything beyond printable ASCII are escaped, the latter as octal numbers of the
    bytes in UTF-8: not all parsers know `\\u`.

    Raises:
        UnicodeEncodeError: for half of a surrogate pair, which UTF-8 cannot represent.
    """
    return '"' + "".join(map(_escaped, text.encode("utf-8"))) + '"'


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in '"\\':
        return "\\" + character
    return character if " " <= character <= "~" else f"\\{byte:03o}"
