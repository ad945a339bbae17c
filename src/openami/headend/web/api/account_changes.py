"""Who may change accounts through the API, and whose: who has just proved themselves, or a token made for it."""

from http import HTTPStatus

from starlette.requests import Request

from openami.headend.accounts import Means, Role
from openami.headend.web.admission import principal_of
from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of


def require_every_feeder(request: Request) -> None:
    """Raise Problem 403 for an engineer of some feeders: the accounts they saw could see the others."""
    if principal_of(request).feeders is not None:
        raise Problem.accounts_are_for_all_feeders()


def require_may_change(request: Request) -> None:
    """Raise Problem 403 unless whoever asks may change accounts now."""
    require_every_feeder(request)
    principal = principal_of(request)
    if principal.may_change_accounts(site_of(request).clock.now()):
        return
    if principal.means is Means.TOKEN:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "step-up-needed",
            "this changes who may do what, and the token was not made for that",
            remedy="have an engineer make one that may: openami token create --accounts",
        )
    raise Problem.step_up_needed()


def refuse_by_token(request: Request, role: Role) -> None:
    """Raise Problem 403 where a token would touch an account of this role: engineers are a person's to make.

    So who steals such a token gets neither the next one nor the keys of the house.
    """
    if principal_of(request).means is Means.TOKEN and role >= Role.ENGINEER:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "step-up-needed",
            "no token makes or changes what is an engineer's",
            remedy="let an engineer do it on the console, or give their password again",
        )
