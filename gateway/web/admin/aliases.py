"""The routes of aliases: names that operators give to models."""

from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from gateway.core import names
from gateway.core.fleet import CONTEXT_TOKENS_MAX, OPTIONS_CHARS_MAX, TARGETS_MAX, Alias
from gateway.dialects.options import Options
from gateway.errors import AliasNotFound, BadRequest
from gateway.web.admin import force
from gateway.web.admin.author import author_of
from gateway.web.admin.deps import AdminDeps, Requested, deps_of
from gateway.web.admin.query import PAGE, Limit, Removed

CONTEXT_OPTION = "num_ctx"
OPTION_NAMES = tuple(name for name in Options.__struct_fields__ if name != CONTEXT_OPTION)
Model = Annotated[str, Meta(min_length=1, max_length=names.SPELLING_CHARS_MAX)]
Targets = Annotated[list[Model], Meta(min_length=1, max_length=TARGETS_MAX)]
ContextTokens = Annotated[int, Meta(ge=1, le=CONTEXT_TOKENS_MAX)]


class AliasFields(Struct, kw_only=True, forbid_unknown_fields=True):
    """`options` are of sampling, in Ollama's names, and win over the client's, as `context_tokens` does (`num_ctx`)."""

    options: dict[str, Any] | UnsetType = UNSET
    context_tokens: ContextTokens | UnsetType | None = UNSET


class CreateAlias(AliasFields, kw_only=True, forbid_unknown_fields=True):
    """A name for models, the first of `targets` that can be served answers. These are models, not other aliases."""

    name: Model
    targets: Targets


class ChangeAlias(AliasFields, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is. `options` replace those there were; null lifts `context_tokens`."""

    targets: Targets | UnsetType = UNSET


class AliasView(Struct, kw_only=True):
    """A name for models. `answers`: the target that would answer now; null while none can."""

    name: str
    targets: list[str]
    options: dict[str, Any]
    context_tokens: int | None
    answers: str | None


class AliasList(Struct, kw_only=True):
    """Aliases by name."""

    data: list[AliasView]
    next: str | None


class AliasController(Controller):
    path = "/aliases"

    @post("/")
    async def create(self, request: Requested, data: JSONBody[CreateAlias]) -> AliasView:
        deps, by = deps_of(request), await author_of(request)
        alias = Alias(name=_model(data.name, "name"), targets=_targets(data.targets))
        made = await deps.aliases.add(by, _changed(alias, data))
        await force.put(deps.publisher.fleet())
        return _view(deps, made.what)

    @get("/")
    async def listed(self, request: Requested, after: FromQuery[str | None] = None, limit: Limit = PAGE) -> AliasList:
        deps = deps_of(request)
        found = [alias for alias in await deps.aliases.all() if alias.name > (after or "")]
        page = found[:limit]
        return AliasList(
            data=[_view(deps, alias) for alias in page], next=page[-1].name if len(found) > limit else None
        )

    @get("/{name:path}")
    async def read(self, request: Requested, name: FromPath[str]) -> AliasView:
        deps = deps_of(request)
        return _view(deps, await deps.aliases.get(_known(name)))

    @patch("/{name:path}")
    async def change(self, request: Requested, name: FromPath[str], data: JSONBody[ChangeAlias]) -> AliasView:
        deps, by = deps_of(request), await author_of(request)
        alias = await deps.aliases.change(by, _known(name), partial(_retargeted, given=data))
        await force.put(deps.publisher.fleet())
        return _view(deps, alias)

    @delete("/{name:path}", status_code=200)
    async def remove(self, request: Requested, name: FromPath[str]) -> Removed:
        deps, by = deps_of(request), await author_of(request)
        known = _known(name)
        await deps.aliases.remove(by, known)
        await force.put(deps.publisher.fleet())
        return Removed(known)


def _known(path: str) -> str:
    """The canonical name in a path; it may hold slashes. Raises `AliasNotFound` for what can be no name."""
    name = names.canonical(str(path).removeprefix("/"))
    if name is None:
        raise AliasNotFound
    return name


def _retargeted(alias: Alias, given: ChangeAlias) -> Alias:
    targets = alias.targets if given.targets is UNSET else _targets(given.targets)
    return _changed(replace(alias, targets=targets), given)


def _changed(alias: Alias, given: AliasFields) -> Alias:
    """The alias with what is given. Raises `BadRequest`."""
    options = alias.options if given.options is UNSET else _options(given.options)
    context = alias.context_tokens if given.context_tokens is UNSET else given.context_tokens
    return replace(alias, options=options, context_tokens=context)


def _targets(given: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_model(one, "targets") for one in given))


def _model(text: str, param: str) -> str:
    name = names.canonical(text)
    if name is None:
        raise BadRequest("Write a model's name as llama3.2:3b.", param=param)
    return name


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """As Ollama takes them: whole numbers where it counts, `stop` always a list. null is as if left out."""
    if unknown := sorted(set(given) - set(OPTION_NAMES)):
        instead = " Say `context_tokens`." if CONTEXT_OPTION in unknown else ""
        raise BadRequest(f"An alias may set {', '.join(OPTION_NAMES)}, and no other option.{instead}", param="options")
    try:
        found: dict[str, Any] = msgspec.to_builtins(msgspec.convert(given, Options).hub())
    except msgspec.ValidationError as wrong:
        raise BadRequest(f"These options are not as Ollama takes them: {wrong}.", param="options") from None
    if len(msgspec.json.encode(found)) > OPTIONS_CHARS_MAX:
        raise BadRequest(f"These options are longer than {OPTIONS_CHARS_MAX} characters.", param="options")
    return found


def _view(deps: AdminDeps, alias: Alias) -> AliasView:
    return AliasView(
        name=alias.name,
        targets=list(alias.targets),
        options=alias.options,
        context_tokens=alias.context_tokens,
        answers=next((model for model in alias.targets if not deps.fleet.objection(model)), None),
    )
