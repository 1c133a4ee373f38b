"""The items that an answer of /v1/responses is made of, and the events of their lives.

An event is its type and its fields; `sequence_number` is put in when it is sent. The texts of an answer are kept until
its end, because its last events repeat them: they are as long as the output tokens of the call allow.
"""

from typing import Any

from gateway.dialects.ollama import ToolCall

Event = tuple[str, dict[str, Any]]


class Item:
    """One item. `begin`, then `grow` any number of times, then `end`; `shown` is the item as it is by then."""

    def __init__(self, item_id: str, index: int) -> None:
        self.id = item_id
        self._index = index
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def shown(self, status: str) -> dict[str, Any]:
        raise NotImplementedError

    def begin(self) -> list[Event]:
        return [("response.output_item.added", {"output_index": self._index, "item": self.shown("in_progress")})]

    def end(self, status: str) -> list[Event]:
        return [("response.output_item.done", {"output_index": self._index, "item": self.shown(status)})]

    def _event(self, kind: str, **fields: Any) -> Event:
        return f"response.{kind}", {"item_id": self.id, "output_index": self._index, **fields}


class ReasoningItem(Item):
    """A thought, shown whole as its own summary. With `encrypted`, it has the field of that name, which is null."""

    def __init__(self, item_id: str, index: int, *, encrypted: bool) -> None:
        super().__init__(item_id, index)
        self._extra: dict[str, Any] = {"encrypted_content": None} if encrypted else {}

    def shown(self, status: str) -> dict[str, Any]:
        summary = [_summary(self.text)] if self._texts else []
        return {"id": self.id, "type": "reasoning", "status": status, "summary": summary, **self._extra}

    def begin(self) -> list[Event]:
        return [*super().begin(), self._event("reasoning_summary_part.added", summary_index=0, part=_summary(""))]

    def grow(self, text: str) -> list[Event]:
        self._texts.append(text)
        return [self._event("reasoning_summary_text.delta", summary_index=0, delta=text)]

    def end(self, status: str) -> list[Event]:
        text = self.text
        return [
            self._event("reasoning_summary_text.done", summary_index=0, text=text),
            self._event("reasoning_summary_part.done", summary_index=0, part=_summary(text)),
            *super().end(status),
        ]


class MessageItem(Item):
    """Text for the user."""

    def __init__(self, item_id: str, index: int) -> None:
        super().__init__(item_id, index)
        self._begun = False
        self._logprobs: list[dict[str, Any]] = []

    def shown(self, status: str) -> dict[str, Any]:
        content = [self._part()] if self._begun else []
        return {"id": self.id, "type": "message", "role": "assistant", "status": status, "content": content}

    def begin(self) -> list[Event]:
        added = super().begin()
        self._begun = True
        return [*added, self._event("content_part.added", content_index=0, part=self._part())]

    def grow(self, text: str, logprobs: list[dict[str, Any]]) -> list[Event]:
        self._texts.append(text)
        self._logprobs += logprobs
        return [self._event("output_text.delta", content_index=0, delta=text, logprobs=logprobs)]

    def end(self, status: str) -> list[Event]:
        part = self._part()
        return [
            self._event("output_text.done", content_index=0, text=part["text"], logprobs=part["logprobs"]),
            self._event("content_part.done", content_index=0, part=part),
            *super().end(status),
        ]

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": list(self._logprobs)}


class CallItem(Item):
    """A call of a function of the client's. Ollama sends calls whole, so one delta has all its arguments."""

    def __init__(self, item_id: str, index: int, call_id: str, name: str) -> None:
        super().__init__(item_id, index)
        self._call = {"call_id": call_id, "name": name}

    def shown(self, status: str) -> dict[str, Any]:
        return {"id": self.id, "type": "function_call", "status": status, **self._call, "arguments": self.text}

    def grow(self, call: ToolCall) -> list[Event]:
        self._texts.append(bytes(call.function.arguments).decode())
        return [self._event("function_call_arguments.delta", delta=self._texts[-1])]

    def end(self, status: str) -> list[Event]:
        done = self._event("function_call_arguments.done", name=self._call["name"], arguments=self.text)
        return [done, *super().end(status)]


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}
