"""What one record of text means: a prompt and an answer, a conversation, a text and its label, a text alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from doctor.samples.targets import known_target

CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue")
PROMPTS = ("instruction", "prompt", "question", "query", "input", "source")
CONTEXTS = ("input", "context", "passage", "document")
ANSWERS = ("output", "response", "completion", "answer", "chosen", "target", "summary", "reply", "answers")
TEXTS = (
    "text",
    "sentence",
    "review",
    "content",
    "body",
    "message",
    "comment",
    "utterance",
    "title",
    "tweet",
    "document",
)
LABELS = ("label", "class", "category", "intent", "sentiment", "target", "topic", "labels", "y")
IDS = ("input_ids", "tokens", "token_ids")
_MOST_NUMBERS = 3  # numeric fields beside text and label (an id, a length, a score): more make a table
_ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How the records of a data set are built: `kind` is chat, answer, classified, plain or ids; the keys by role."""

    kind: str
    text: str
    context: str | None = None
    answer: str | None = None
    split: str | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """The keys that every record must have."""
        return (self.text, *((self.answer,) if self.answer else ()))


@dataclass(frozen=True, slots=True)
class Record:
    """One sample. `wrong` says what breaks its form, `roles` what is wrong with the order of speakers."""

    text: str = ""
    answer: str | None = None
    system: str = ""
    wrong: str | None = None
    roles: str | None = None
    turns: tuple[tuple[str, str], ...] = ()
    ids: tuple[int, ...] = ()
    ends_open: bool = False


def form_of(records: Iterable[Mapping[str, Any]], target: str | None = None) -> Form | None:
    """The form of most of these records; None when none of the known ones fits."""
    records = list(records)
    keys = Counter(key for record in records for key in record)
    if not keys:
        return None
    known_target(target, keys, "the records")
    common = {key for key, count in keys.items() if count >= 0.5 * len(records)}
    split = next((key for key in ("split", "subset") if key in common), None)

    def first(names: Iterable[str], kind: type | tuple[type, ...] = str) -> str | None:
        for name in names:
            if name in common and sum(isinstance(r.get(name), kind) for r in records) >= 0.5 * len(records):
                return name
        return None

    numbers = sum(
        sum(type(record.get(key)) in (int, float) for record in records) >= 0.5 * len(records)
        for key in common - {target, *LABELS}
    )
    chat = first(CHATS, list)
    if chat:
        return Form("chat", chat, split=split)
    ids = first(IDS, list)
    if ids and all(isinstance(number, int) for record in records[:5] for number in record.get(ids) or ()):
        return Form("ids", ids, answer="labels" if "labels" in common else None, split=split)
    if numbers > _MOST_NUMBERS:
        return None  # a table with a column of text
    answer = target if target in common else first(ANSWERS)
    prompt = first(name for name in PROMPTS if name != answer)
    if prompt and answer and prompt != answer:
        context = first(name for name in CONTEXTS if name not in (prompt, answer))
        return Form(_by_answers(records, answer), prompt, context, answer, split)
    text = first(name for name in TEXTS if name != target)
    label = target if target in common else first(LABELS, (str, int, float, bool))
    if text and label and label != text:
        return Form(_by_answers(records, label), text, None, label, split)
    return Form("plain", text, split=split) if text else None


def _by_answers(records: list[Mapping[str, Any]], key: str) -> str:
    """Whether the answers are a few classes or free text."""
    values = [str(record.get(key)) for record in records if record.get(key) not in (None, "")]
    few = len(set(values)) <= max(2, min(200, 0.2 * len(values)))
    short = sum(len(value) <= 40 for value in values) >= 0.9 * len(values)
    return "classified" if few and short else "answer"


def record_of(raw: Mapping[str, Any], form: Form) -> Record:
    """Read a raw record by its form."""
    missing = [key for key in form.needed if key not in raw]
    if missing:
        return Record(wrong=f"no {', '.join(missing)}")
    if form.kind == "chat":
        return _conversation(raw[form.text])
    if form.kind == "ids":
        ids = raw[form.text]
        whole = isinstance(ids, list) and all(isinstance(number, int) for number in ids)
        return Record(ids=tuple(ids)) if whole else Record(wrong=f"{form.text} is no list of integers")
    text = raw[form.text]
    if not isinstance(text, str) and text is not None:
        return Record(wrong=f"{form.text} is {_kind(text)} instead of text")
    context = raw.get(form.context) if form.context else None
    prompt = f"{text or ''}\n{context}" if isinstance(context, str) and context.strip() else text or ""
    answer = raw[form.answer] if form.answer else None
    if form.kind == "answer" and not isinstance(answer, (str, type(None))):
        if isinstance(answer, (list, dict)):
            return Record(wrong=f"{form.answer} is {_kind(answer)} instead of text")
        answer = str(answer)
    elif form.kind == "classified" and isinstance(answer, (list, dict)):
        return Record(wrong=f"{form.answer} is {_kind(answer)} instead of a label")
    if form.answer and answer is None:
        answer = ""
    return Record(prompt, None if answer is None else str(answer))


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", bool: "a boolean", int: "a number", float: "a number", str: "text"}
    return names.get(type(value), "null")


def _conversation(messages: Any) -> Record:
    if not isinstance(messages, list) or not messages:
        return Record(wrong="no messages" if messages in ([], None) else "messages are no list")
    turns: list[tuple[str, str]] = []
    for message in messages:
        if not isinstance(message, Mapping):
            return Record(wrong=f"a message is {_kind(message)} instead of an object")
        role = message.get("role", message.get("from"))
        content = message.get("content", message.get("value"))
        if isinstance(content, list):  # parts of several kinds: the text among them
            content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
        if content is None and (message.get("tool_calls") or message.get("function_call")):
            content = str(message.get("tool_calls") or message.get("function_call"))
        if role is None:
            return Record(wrong="a message has no role")
        if not isinstance(content, (str, type(None))):
            return Record(wrong=f"the content of a message is {_kind(content)} instead of text")
        if content is None and "content" not in message and "value" not in message:
            return Record(wrong="a message has no content")
        turns.append((_ROLES.get(str(role).lower(), f"?{role}"), content or ""))
    roles = _order(turns)
    last = max((place for place, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    before = turns if last is None else turns[:last]
    return Record(
        text="\n".join(text for role, text in before if role != "system"),
        answer=turns[last][1] if last is not None else None,
        system="\n".join(text for role, text in turns if role == "system"),
        roles=roles,
        turns=tuple(turns),
        ends_open=turns[-1][0] != "assistant",
    )


def _order(turns: list[tuple[str, str]]) -> str | None:
    """What is wrong with who speaks when; None when it is as chat templates want it."""
    previous = None
    for place, (role, _) in enumerate(turns):
        if role.startswith("?"):
            return f"the unknown role {role[1:]!r}"
        if role == "system":
            if place and any(other != "system" for other, _ in turns[:place]):
                return "a system message after the first turn"
            continue
        if previous is None and role != "user":
            return f"the first turn is the {role}'s"
        if role == previous and role == "user":
            return "two turns of the user in a row"
        if role == previous and role == "assistant":
            return "two turns of the assistant in a row"
        previous = role
    return None if previous is not None else "no turn of the user"
