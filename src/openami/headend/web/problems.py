"""Errors on the web: RFC 9457 problem documents for programs, the same words as a page for people."""

from http import HTTPStatus
from typing import Any, Final, Self

# Each problem type has an address of its own, resolved by the help page of the same name.
_BASE: Final = "/help/problems#"


class Problem(Exception):
    """A request that cannot be answered as asked. Raised by routes; answered by `app.answer_problem`."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        remedy: str = "",
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.remedy = remedy
        self.headers = headers or {}
        self.members = members

    def document(self) -> dict[str, Any]:
        """Return it as RFC 9457 has it; ``code``, ``remedy`` and what else is known are extension members."""
        document = {
            "type": f"{_BASE}{self.code}",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            "code": self.code,
            **self.members,
        }
        if self.remedy:
            document["remedy"] = self.remedy
        return document

    @classmethod
    def not_signed_in(cls) -> Self:
        return cls(
            HTTPStatus.UNAUTHORIZED,
            "not-signed-in",
            "nobody is signed in",
            remedy="sign in, or send an API token as Authorization: Bearer",
            headers={"WWW-Authenticate": 'Bearer realm="openami"'},
        )

    @classmethod
    def role_missing(cls, needed: str, has: str) -> Self:
        return cls(
            HTTPStatus.FORBIDDEN,
            "role-missing",
            f"this needs the role {needed}; yours is {has}",
            remedy="ask an engineer of your organisation",
        )

    @classmethod
    def accounts_are_for_all_feeders(cls) -> Self:
        return cls(
            HTTPStatus.FORBIDDEN,
            "scope-too-narrow",
            "accounts and tokens are for engineers of every feeder",
            remedy="ask one of them: an account can be given more than its maker has",
        )

    @classmethod
    def step_up_needed(cls) -> Self:
        return cls(
            HTTPStatus.FORBIDDEN,
            "step-up-needed",
            "this needs your password again, given within the last five minutes",
            remedy="give the password, then repeat what you asked",
        )

    @classmethod
    def scope_too_narrow(cls, what: str) -> Self:
        return cls(
            HTTPStatus.FORBIDDEN,
            "scope-too-narrow",
            f"{what} is about all feeders, and yours are some of them",
            remedy="ask somebody who is responsible for all feeders",
        )

    @classmethod
    def wrong_origin(cls) -> Self:
        return cls(
            HTTPStatus.FORBIDDEN,
            "wrong-origin",
            "the request was not made by a page of this head-end",
            remedy="use the console's own pages, or an API token",
        )

    @classmethod
    def not_found(cls, detail: str) -> Self:
        return cls(HTTPStatus.NOT_FOUND, "not-found", detail)

    @classmethod
    def store_failed(cls, detail: str, remedy: str) -> Self:
        return cls(HTTPStatus.SERVICE_UNAVAILABLE, "store-failed", detail, remedy=remedy)
