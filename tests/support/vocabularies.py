"""Small vocabularies of every kind, made on the spot."""

import base64
import json

import tokenizers

from tersely.tokenize.subword.fast import PROBES

NASTY = [
    *PROBES,
    "a" * 5000,
    "na\u00efve \U0001f600!",
    "\t\t x\r\n\r\ny ",
    "\u00bd \ufb01 \u1e9b\u0323 o\u0323\u0301",
]


def rank_file():
    """All bytes, and some merges."""
    tokens = [bytes([byte]) for byte in range(256)] + [
        b"th",
        b"the",
        b"aa",
        b"aaa",
        b"aaaa",
        b"\xc3\xa9",
        b"  ",
    ]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def changed(content, **parts):
    """A tokenizer.json with some of its parts replaced."""
    return json.dumps(json.loads(content) | parts)


def with_added(content, text, **flags):
    """A tokenizer.json with one more added token."""
    stored = tokenizers.Tokenizer.from_str(content)
    stored.add_tokens([tokenizers.AddedToken(text, special=False, **flags)])
    return stored.to_str()
