"""Doorkeepers for tests: who is asking is what the test says."""

from starlette.requests import HTTPConnection

from openami.headend.accounts import Principal


class GivenDoor:
    """Everybody is the one the test gave; nobody, where it gave none."""

    def __init__(self, principal: Principal | None) -> None:
        self.given = principal

    async def principal(self, request: HTTPConnection) -> Principal | None:
        return self.given


class BearerDoor:
    """Knows some tokens, as the real one does."""

    def __init__(self, known: dict[str, Principal]) -> None:
        self._known = known

    async def principal(self, request: HTTPConnection) -> Principal | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self._known.get(token) if scheme.lower() == "bearer" else None
