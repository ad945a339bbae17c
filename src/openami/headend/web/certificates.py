"""A day's certificate as an answer, on a page and through the API alike."""

from datetime import date
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from openami.headend.web.problems import Problem
from openami.headend.web.site import site_of
from openami.sip.certificate import CertificateError, CertificateFault


async def certificate_answer(
    request: Request, feeder_id: str, gateway_id: str, day: date
) -> Response:
    """Answer with the certificate of a gateway's day. Raises Problem where there is none to be had."""
    make = site_of(request).certificate
    if make is None:
        raise Problem(
            HTTPStatus.CONFLICT,
            "no-key",
            "this head-end has no key to certify with",
            remedy="configure [signing] in its file, as docs/commands.md shows",
        )
    try:
        content = await make(feeder_id, gateway_id, day)
    except CertificateError as error:
        if error.fault is CertificateFault.NO_STATEMENT:
            raise Problem.not_found(str(error)) from None
        raise Problem(
            HTTPStatus.CONFLICT, "not-certified", f"{error.fault}: {error}", remedy=error.remedy
        ) from None
    name = f"{gateway_id}-{day}.json"
    return Response(
        content,
        media_type="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )
