"""The grammar of patterns, which is einops': from text to axes. What does not parse is refused with its mend."""

import re
from collections.abc import Iterable
from itertools import pairwise
from keyword import iskeyword
from typing import Any

Axis = tuple[str, ...]  # one axis of the array, or of the statistics: its factors from the slowest to the fastest

# Parameters of the functions that take sizes of a pattern's names as keywords, those to come included: such a name
# could never get a size. A test holds them to the signatures.
RESERVED = frozenset(
    "self pattern offsets x layout weight bias axis where weights weights_are labels num_labels skipna eps ddof eps_on "
    "moments out dtype return_moments grad chunks progress start".split()
)

_ELLIPSIS = "..."
_TOKEN = r"\s*(\.\.\.|->|\w+|\S)"  # compiled when the first pattern is read
_CONSTRUCTORS = frozenset(("axes", "batch", "instance", "layer", "group", "segments"))  # of layouts that have a name
_LETTERS = frozenset("nbcdhwtlsfgkpq")  # of which people make one word for several axes: nchw
_MENDS = {
    **dict.fromkeys("-=>→⇒", "write the arrow as '->'"),
    **dict.fromkeys(",;", "put spaces between names, and nothing else"),
    **dict.fromkeys("[]{}", "write ( and ) around what makes one axis"),
    **dict.fromkeys(".…*", "for any number of axes write '...'"),
}


def parse(pattern: str) -> tuple[list[Axis], list[Axis]]:
    """Both sides of a pattern; `...` stays a name of its own until the number of axes is known."""
    left, right = _sides(pattern)
    named = [[name for item in side for name in item] for side in (left, right)]
    for names in named:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{pattern!r} names {', '.join(twice)} twice on one side; name each axis once")
    missing = [name for name in named[1] if name not in named[0]]
    if missing:
        mend = _spaced(named[0], "".join(missing)) or did_you_mean(missing[0], named[0]) or "; name it there"
        raise ValueError(f"{pattern!r}: {', '.join(missing)} on the right is not on the left{mend}")
    if any(_ELLIPSIS in item and len(item) > 1 for item in left):
        raise ValueError(f"{pattern!r}: '...' on the left stands alone, outside parentheses")
    return left, right


def names_of(pattern: str) -> list[str]:
    """Names that may get a size, in order."""
    return [name for item in parse(pattern)[0] for name in item if name != _ELLIPSIS]


def fixed_axes(left: list[Axis]) -> int:
    """How many axes the left side names, beside those of `...`."""
    return len(left) - ((_ELLIPSIS,) in left)


def expand(left: list[Axis], right: list[Axis], ndim: int, text: str) -> tuple[list[Axis], list[Axis]]:
    """Put names in the place of `...`, now that the number of axes is known."""
    dots = (_ELLIPSIS,)
    fixed = fixed_axes(left)
    if ndim < fixed or (dots not in left and ndim != fixed):
        need = f"{fixed} or more" if dots in left else str(fixed)
        axes = "axis" if need == "1" else "axes"
        mend = _spaced([name for item in left for name in item]) or "; name each axis, or use '...'"
        raise ValueError(f"{text} has {need} {axes} on the left, but the array has {ndim}{mend}")
    filled = tuple(f"...{i}" for i in range(ndim - fixed))
    new_left = [new for item in left for new in ([(n,) for n in filled] if item == dots else [item])]
    new_right: list[Axis] = []
    for item in right:
        if item == dots:
            new_right += [(n,) for n in filled]
        else:
            new_right.append(tuple(n for name in item for n in (filled if name == _ELLIPSIS else (name,))))
    return new_left, new_right


def in_numbers(left: list[Axis], right: list[Axis], sizes: dict[str, int]) -> tuple[Any, Any]:
    """Both sides without names: for each run of factors the product of known sizes, and how many are not known.

    A run is what stays together: neighbours on the left that are all reduced, or that are neighbours on the right, too.
    A factor of size 1 is none. On the right stand the numbers of runs.
    """
    left, right = ([tuple(n for n in item if sizes.get(n) != 1) for item in side] for side in (left, right))
    kept = {name for item in right for name in item}
    follows = {name: after for item in right for name, after in pairwise(item)}
    number: dict[str, int] = {}
    runs: list[list[list[int]]] = []
    for item in left:
        of_axis: list[list[int]] = []
        for before, name in pairwise(("", *item)):
            joined = before and (follows.get(before) == name or (before not in kept and name not in kept))
            if not joined:
                number[name] = sum(map(len, runs)) + len(of_axis)
                of_axis.append([1, 0])
            of_axis[-1][0] *= sizes.get(name, 1)
            of_axis[-1][1] += name not in sizes
        runs.append(of_axis)
    numbers = tuple(tuple(number[name] for name in item if name in number) for item in right)
    return tuple(tuple(map(tuple, of_axis)) for of_axis in runs), numbers


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message: which of the known names looks like this one; empty if none does."""
    from difflib import get_close_matches

    by_lower = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def _sides(pattern: str) -> tuple[list[Axis], list[Axis]]:
    sides: list[list[Axis]] = [[]]
    open_item: list[str] | None = None
    for token in re.findall(_TOKEN, pattern):
        if token == "->":
            if open_item is not None:
                raise ValueError(_not_closed(pattern, open_item))
            if len(sides) == 2:
                raise ValueError(f"{pattern!r} does not parse: write one '->'")
            sides.append([])
        elif token == "(":
            if open_item is not None:
                raise ValueError(f"{pattern!r} does not parse: parentheses do not nest")
            open_item = []
        elif token == ")":
            if open_item is None:
                raise ValueError(f"{pattern!r} does not parse: ')' without '('")
            sides[-1].append(tuple(open_item))
            open_item = None
        elif token == "1":
            if open_item is None:
                sides[-1].append(())
        else:
            if token != _ELLIPSIS:
                _check_name(token, pattern)
            if open_item is None:
                sides[-1].append((token,))
            else:
                open_item.append(token)
    if open_item is not None:
        raise ValueError(_not_closed(pattern, open_item))
    if len(sides) != 2:
        name = pattern.strip()
        mend = f"; or did you mean numbanorm.Layout.{name}()?" if name in _CONSTRUCTORS else ""
        raise ValueError(f"{pattern!r} has no '->': write the array's axes, '->', then the axes to keep{mend}")
    return sides[0], sides[1]


def _not_closed(pattern: str, item: list[str]) -> str:
    return f"{pattern!r} does not parse: '(' without ')'; close '({' '.join(item)}' where that axis ends"


def _check_name(name: str, pattern: str) -> None:
    """Refuse what cannot name an axis: only what could be a keyword of a call can."""
    if not re.match(r"\w", name):
        mend = _MENDS.get(name, "write names, 1, '...', parentheses and one '->'")
        raise ValueError(f"{pattern!r} does not parse at {name!r}: {mend}")
    if name.isdecimal():
        raise ValueError(
            f"{pattern!r} does not parse at {name!r}: no number but 1 can be an axis; name the axis, and give the size "
            f"of that name as a keyword, as in 'n (h p) -> n h' with p={max(int(name), 2)}"
        )
    if not (name.isascii() and name.isidentifier()) or iskeyword(name):
        raise ValueError(
            f"{pattern!r}: {name!r} cannot name an axis; a name is made of the letters a to z and A to Z, digits and "
            "_, does not begin with a digit, and is no keyword of Python"
        )
    if name in RESERVED:
        raise ValueError(
            f"{pattern!r}: {name!r} cannot name an axis, because functions have a parameter of that name; choose "
            f"another, such as {name}1"
        )


def _spaced(names: list[str], letters: str = "") -> str:
    """The end of a message: a name of several axes' letters, among them these, wants spaces; empty if there is none."""
    for name in names:
        if (
            len(name) > 1
            and len(set(name)) == len(name)
            and set(letters) <= set(name)
            and set(name.lower()) <= _LETTERS
        ):
            return f"; {name!r} is one name: put spaces between names, as in {' '.join(name)!r}"
    return ""
