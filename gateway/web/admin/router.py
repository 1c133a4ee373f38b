"""All routes of the admin API under one guard: a new one is guarded before anybody thinks of it."""

from litestar import Router

from gateway.web.admin.aliases import AliasController
from gateway.web.admin.asked import well_formed
from gateway.web.admin.audit import audit
from gateway.web.admin.author import Numbered
from gateway.web.admin.backends import BackendController
from gateway.web.admin.credits import CreditController
from gateway.web.admin.dead import dead, replay
from gateway.web.admin.deps import Requested
from gateway.web.admin.dry_run import dry_run
from gateway.web.admin.explain import explain
from gateway.web.admin.guard import admins_only
from gateway.web.admin.keys import KeyController
from gateway.web.admin.prices import PriceController
from gateway.web.admin.query import known_only
from gateway.web.admin.reconcile import reconcile
from gateway.web.admin.teams import TeamController
from gateway.web.admin.tiers import TierController
from gateway.web.admin.usage import usage

PATH = "/admin"


async def _well_asked(request: Requested) -> None:
    await known_only(request)
    await well_formed(request)


def router() -> Router:
    return Router(
        PATH,
        route_handlers=[
            KeyController,
            TeamController,
            TierController,
            PriceController,
            CreditController,
            BackendController,
            AliasController,
            reconcile,
            dry_run,
            explain,
            audit,
            usage,
            dead,
            replay,
        ],
        guards=[admins_only],
        middleware=[Numbered()],
        before_request=_well_asked,
    )
