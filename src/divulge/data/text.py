"""Names that come from outside: kept readable, made harmless."""

import unicodedata

_JOINERS = "\u200c\u200d"  # part of ordinary words in several scripts, and of emoji


def inert(name: object) -> str:
    r"""A name from a file or a column as text that no terminal, page or file can take for a command.

    Control, bidirectional-override and undecodable characters are written as escapes; all others stay.

    Example:
        >>> print(inert("cat\x1b[2J.png"), inert("chat noir é"))
        cat\x1b[2J.png chat noir é
    """
    text = str(name)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS:
        return character.encode("unicode_escape").decode("ascii")
    return character
