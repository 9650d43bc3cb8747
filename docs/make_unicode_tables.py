"""Writes tersely/tokenize/words/unicode.npz from the installed ``regex`` package.

Run it from the root of the project: python docs/make_unicode_tables.py. The file records which Unicode version it
was made from, so that word boundaries never depend on what is installed.
"""

import importlib.metadata
import re
from pathlib import Path

import numpy as np
import regex

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn"
WORD_BREAKS = (
    "Other CR LF Newline Extend ZWJ Format Katakana Hebrew_Letter ALetter Single_Quote Double_Quote MidNumLet "
    "MidLetter MidNum Numeric ExtendNumLet Regional_Indicator WSegSpace"
)
CODE_POINTS = 0x110000
# Extended_Pictographic in Unicode 14, where the present version may have it no more. They stay pictographic here, so
# that an emoji sequence which once was one word is one for good, and conformance tests of both versions pass.
PICTOGRAPHIC_ONCE = (
    "2388 2605 2607-2612 2614-2685 2690-2705 2708-2712 2763-2767 1F000-1F0FF 1F10D-1F10F 1F12F 1F16C-1F171 "
    "1F1AD-1F1E5 1F249-1F3FA 1F400-1F53D 1F546-1F64F 1F680-1F6FF 1F774-1F77F 1F7D5-1F7FF 1F8AE-1F8FF 1F947-1FAFF"
)


def property_names():
    """For each code point, one string of its properties: ``"Lu|ALetter|space|pictographic"``, the last two optional."""
    every = "".join(map(chr, range(CODE_POINTS)))
    once = re.sub(r"[0-9A-F]+", lambda point: rf"\U{int(point[0], 16):08x}", PICTOGRAPHIC_ONCE).replace(
        " ", ""
    )
    names = np.full(CODE_POINTS, "", object)
    for patterns in (
        {name: rf"\p{{{name}}}" for name in CATEGORIES.split()},
        {f"|{name}": rf"\p{{Word_Break={name}}}" for name in WORD_BREAKS.split()},
        {"|space": r"\s"},
        {"|pictographic": rf"[\p{{Extended_Pictographic}}{once}]"},
    ):
        for name, pattern in patterns.items():
            for run in regex.finditer(f"{pattern}+", every):
                names[run.start() : run.end()] += name
    return names


def unicode_version():
    """The Unicode version that the package says it supports."""
    about = importlib.metadata.metadata("regex")
    text = about.get_payload() or about["Description"]
    return re.search(r"supports Unicode (\d+\.\d+)", text).group(1)


if __name__ == "__main__":
    names, codes = np.unique(property_names().astype(str), return_inverse=True)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
    file = Path("tersely/tokenize/words/unicode.npz")
    np.savez_compressed(
        file,
        version=np.array(unicode_version()),
        names=names,
        codes=codes[starts].astype(np.uint8),
        lengths=np.diff(starts, append=CODE_POINTS).astype(np.uint32),
    )
    print(
        f"{file}: Unicode {unicode_version()}, {len(names)} kinds, {len(starts)} runs, {file.stat().st_size} bytes"
    )
