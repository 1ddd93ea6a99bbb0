"""What a tokenizer makes of texts."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from doctor.errors import DoctorError
from doctor.evidence.text_records import TokenCounts
from doctor.samples.records import Record

_UNLIMITED = 10**9  # transformers says 1e30 where it does not know


class Tokenizing:
    """Counts tokens of one record after the other.

    Raises DoctorError when transformers is missing or `source` (a folder, or a package that holds one) has no tokenizer.
    """

    def __init__(self, source: str, length: int | None = None) -> None:
        folder = _folder(source)
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise DoctorError("a tokenizer needs transformers", "pip install 'pytorch-doctor[transformers]'") from None
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as failure:
            first = str(failure).strip().partition("\n")[0]
            raise DoctorError(f"{source} holds no tokenizer that can be loaded: {first}") from None
        self._source = source
        config = folder / "config.json"
        facts = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        self._rows: int | None = facts.get("vocab_size")
        own = self._tokenizer.model_max_length
        limits = [limit for limit in (own, facts.get("max_position_embeddings")) if limit and limit < _UNLIMITED]
        self._length = length or (min(limits) if limits else None)
        self._tokens: list[int] = []
        self._unknown: list[int] = []
        self._begins: list[bool] = []
        self._ends: list[bool] = []

    def take(self, record: Record) -> None:
        """Count the tokens of one record."""
        tokenizer = self._tokenizer
        ids = list(record.ids) or self._encoded(record)
        self._tokens.append(len(ids))
        unknown = tokenizer.unk_token_id
        self._unknown.append(ids.count(unknown) if unknown is not None else 0)
        begin = {token for token in (tokenizer.bos_token_id, tokenizer.cls_token_id) if token is not None}
        end = {token for token in (tokenizer.eos_token_id, tokenizer.sep_token_id) if token is not None}
        self._begins.append(len(ids) > 1 and ids[0] in begin and ids[1] == ids[0])
        self._ends.append(len(ids) > 1 and ids[-1] in end and ids[-2] == ids[-1])

    def _encoded(self, record: Record) -> list[int]:
        tokenizer = self._tokenizer
        if record.turns and getattr(tokenizer, "chat_template", None):
            messages = [{"role": role, "content": text} for role, text in record.turns if not role.startswith("?")]
            try:
                return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))
            except Exception:  # a template refuses an order of roles: that order is another rule's finding
                pass
        text = "\n".join(text for _, text in record.turns) or f"{record.text}\n{record.answer or ''}".strip()
        return list(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def result(self) -> TokenCounts:
        """The columns."""
        tokenizer = self._tokenizer
        padding = "none" if tokenizer.pad_token_id is None else (
            "unknown" if tokenizer.pad_token_id == tokenizer.unk_token_id else
            "end" if tokenizer.pad_token_id == tokenizer.eos_token_id else "own"
        )  # fmt: skip
        return TokenCounts(
            tokenizer=self._source,
            length=self._length,
            vocabulary=len(tokenizer),
            rows=self._rows,
            tokens=np.array(self._tokens, np.int64),
            unknown=np.array(self._unknown, np.int64),
            double_begin=np.array(self._begins, bool),
            double_end=np.array(self._ends, bool),
            has_unknown=tokenizer.unk_token_id is not None,
            padding=padding,
        )


def _folder(source: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path.parent
    if path.is_dir():
        return _holding(path) or path
    spec = importlib.util.find_spec(source) if source.isidentifier() else None
    for place in (spec.submodule_search_locations or []) if spec else []:
        found = _holding(Path(place))
        if found:
            return found
    raise DoctorError(f"no tokenizer at {source}", "give the folder that holds tokenizer.json")


def _holding(folder: Path) -> Path | None:
    found = sorted(folder.rglob("tokenizer.json")) or sorted(folder.rglob("vocab.*")) or sorted(folder.rglob("*.model"))
    return found[0].parent if found else None
