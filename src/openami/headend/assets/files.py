"""A file of assets, whatever its kind, into drafts. Pure: bytes in."""

from openami.headend.assets.drafts import Draft, drafts_of
from openami.headend.assets.geojson import read_geojson
from openami.headend.assets.spreadsheet import check_size, read_csv, read_xlsx
from openami.headend.assets.tables import RowFault, SheetRow


def read_assets(
    data: bytes, name: str, *, feeder_id: str | None = None
) -> tuple[list[Draft], list[RowFault]]:
    """Return what a file says and what of it is wrong. Raises FileRefused when it is not read at all."""
    rows, faults = read_rows(data, name)
    drafts, more = drafts_of(rows, feeder_id=feeder_id)
    return drafts, [*faults, *more]


def read_rows(data: bytes, name: str) -> tuple[list[SheetRow], list[RowFault]]:
    """Return a file's rows; its kind is told by its content, not its name. Raises FileRefused."""
    check_size(data)
    if data.startswith(b"PK"):
        return read_xlsx(data)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return read_geojson(data, name)
    return read_csv(data, name)
