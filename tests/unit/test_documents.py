"""Documents that are made from the code say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("documents", ROOT / "tools" / "documents.py")
assert _spec is not None and _spec.loader is not None
documents = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(documents)


@pytest.mark.parametrize("path", documents.DOCUMENTS, ids=lambda path: path.name)
def test_a_document_is_what_the_code_makes_of_it(path: Path) -> None:
    assert path.read_text() == documents.DOCUMENTS[path](), "run: python tools/documents.py --update"
