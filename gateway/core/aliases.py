"""Names that operators give to models: which model each stands for at the moment."""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from gateway.core.catalogue import ModelCard
from gateway.core.fleet import Alias

Objection = Callable[[str], str]
"""why a model cannot be served now; "" where it can"""


def target(alias: Alias, objection: Objection) -> str:
    """The first of its models that can be served; where none can, the first, so that it is told what keeps that."""
    return next((model for model in alias.targets if not objection(model)), alias.targets[0])


def listed(cards: Iterable[ModelCard], aliases: Iterable[Alias], objection: Objection) -> list[ModelCard]:
    """The models, and under its own name each alias whose model is among them; it wins over a model of that name."""
    found = {card.name: card for card in cards}
    named = {alias.name: found.get(target(alias, objection)) for alias in aliases}
    named_cards = {name: replace(card, name=name) if card else None for name, card in named.items()}
    return sorted((card for card in (found | named_cards).values() if card), key=lambda card: card.name)
