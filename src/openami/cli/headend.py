"""``openami headend``: the operator's side of the wire."""

from collections.abc import Mapping

import click

from openami.cli.lazy_group import LazyGroup

# Where each command lives: ``module:attribute`` below this package.
_COMMANDS: Mapping[str, str] = {
    "backup": "headend_backup:backup",
    "certificates": "headend_enrolment:certificates",
    "certify-slices": "headend_workers:certify_slices",
    "close": "headend_closed:close",
    "closed": "headend_closed:closed",
    "enroll": "headend_enrolment:enroll",
    "enroll-serve": "headend_enrolment:enroll_serve",
    "enroll-token": "headend_enrolment:enroll_token",
    "first-link": "headend_first_link:first_link",
    "import": "headend_import:import_backlog",
    "init": "headend_init:init",
    "migrate-store": "headend_move:migrate_store",
    "renew": "headend_enrolment:renew",
    "restore": "headend_backup:restore",
    "retention": "headend_retention:retention",
    "revoke": "headend_enrolment:revoke",
    "run": "headend_run:run",
    "settle": "headend_backup:settle",
    "workers": "headend_workers:workers",
}


@click.group(cls=LazyGroup, places=_COMMANDS)
def headend() -> None:
    """The head-end: receives what gateways publish, and stores it."""
