"""What tests of jobs share: small inputs with everything in them that leaves a trace."""

import json

import pytest
from small import TEXTS


@pytest.fixture
def inputs(tmp_path):
    """Two files with everything in them that leaves a trace: documents, fields, rejected and empty records."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        records = [json.dumps({"text": text, "lang": name}) for text in TEXTS[:60]]
        records[3:3] = ["{", json.dumps({"text": ""}), json.dumps({"no": 1})]
        (tmp_path / f"in/{name}.jsonl").write_text("\n".join(records) + "\n")
    return tmp_path / "in"
