"""The balances a web has found lately, for pages, the stream and the API alike."""

from starlette.requests import HTTPConnection

from openami.headend.balancing import Balancing
from openami.headend.web.site import site_of


def balancing_of(request: HTTPConnection) -> Balancing:
    """Return what finds balances in the site's store, and keeps them for some minutes."""
    state, store = request.app.state, site_of(request).store
    kept = getattr(state, "balancing", None)
    if kept is None or kept[0] is not store:
        kept = state.balancing = (store, Balancing(store))
    found: Balancing = kept[1]
    return found
