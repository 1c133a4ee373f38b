"""POST /v1/responses: OpenAI's request into the hub's. Stateless: every request carries its whole conversation.

Around it, all named responses_…: `request` is what is read, `input` its items, `tools` its tools, `echo` what
the answer repeats of it; `answer` is the answer's way back, made of the items in `output`.
"""

from functools import partial

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.dialects import forced, tools
from gateway.dialects.asked import Asked
from gateway.dialects.ollama import ChatRequest, Message
from gateway.dialects.openai.responses_answer import Form, Renderer
from gateway.dialects.openai.responses_echo import echo
from gateway.dialects.openai.responses_input import messages
from gateway.dialects.openai.responses_request import ENCRYPTED, LOGPROBS, ResponsesRequest, TextFormat, refuse
from gateway.dialects.openai.responses_tools import chosen, functions
from gateway.errors import BadRequest

_request = msgspec.json.Decoder(ResponsesRequest)


def parse(body: bytes) -> Asked:
    """The hub's request. Raises `msgspec.ValidationError` or `BadRequest`, naming the field."""
    asked = _request.decode(body)
    refuse(asked)
    include, offered = asked.include or [], functions(asked.tools or [])
    seen, choice = chosen(offered, asked.tool_choice or "auto")
    upstream = tools.offer(_chat(asked, LOGPROBS in include), [tool.offered() for tool in seen], choice)
    form = Form(
        model=asked.model or "",
        echo=echo(asked, upstream, offered),
        logprobs=LOGPROBS in include,
        encrypted=ENCRYPTED in include,
        one_call=asked.parallel_tool_calls is False,
    )
    renderer = partial(Renderer, form)
    return Asked(
        model=form.model,
        upstream=upstream,
        streamed=bool(asked.stream),
        output_tokens_max=asked.output_tokens_max(asked.max_output_tokens),
        end_user=asked.safety_identifier or asked.user or "",
        renderer=forced.forcing(renderer, (tool.name for tool in seen)) if choice == "required" else renderer,
    )


def _chat(asked: ResponsesRequest, logprobs: bool) -> ChatRequest:
    """The hub's request, but for its tools.

    `truncation` is OpenAI's word for `truncate`, which wins if both are given. With neither, the backend's own way
    stays in force, which is to leave out the oldest messages.
    """
    given = asked.beyond_messages(asked.reasoning.effort if asked.reasoning else None)
    if asked.truncation:
        given.setdefault("truncate", asked.truncation == "auto")
    return ChatRequest(
        messages=_messages(asked),
        options=asked.sampling(temperature=asked.temperature, top_p=asked.top_p),
        format=_format(asked.text.format if asked.text else None),
        logprobs=logprobs,
        top_logprobs=(asked.top_logprobs or 0) if logprobs else 0,
        **given,
    )


def _messages(asked: ResponsesRequest) -> list[Message]:
    """The conversation. `instructions` and a system message after them become one: templates may know but one."""
    if asked.input is None:
        raise BadRequest("The request needs `input`: a text, or a list of items.", param="input")
    found = [Message(role="user", content=asked.input)] if isinstance(asked.input, str) else messages(asked.input)
    if not found:
        raise BadRequest("There is nothing to answer in `input`.", param="input")
    if not asked.instructions:
        return found
    system = Message(role="system", content=asked.instructions)
    if found[0].role == "system":
        system.content += f"\n\n{found[0].content}"
        system.images = found.pop(0).images
    return [system, *found]


def _format(wanted: TextFormat | None) -> Raw | UnsetType:
    if wanted is None or wanted.type == "text":
        return UNSET
    if wanted.type == "json_object":
        return Raw(b'"json"')
    if wanted.schema is None:
        raise BadRequest("`text.format` of type json_schema needs a `schema`, which is an object.", param="text")
    return Raw(msgspec.json.encode(wanted.schema))
