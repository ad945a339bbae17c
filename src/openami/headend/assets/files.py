"""A file of assets, whatever its kind, into drafts. Pure: bytes in."""

from openami.headend.assets.drafts import Draft, drafts_of
from openami.headend.assets.geojson import read_geojson
from openami.headend.assets.spreadsheet import check_size, read_csv, read_xlsx
from openami.headend.assets.tables import RowFault


def read_assets(
    data: bytes, name: str, *, feeder_id: str | None = None
) -> tuple[list[Draft], list[RowFault]]:
    """Return what a file says and what of it is wrong; its kind is told by its content, not its name.

    Raises FileRefused when it is not read at all.
    """
    check_size(data)
    if data.startswith(b"PK"):
        rows, faults = read_xlsx(data)
    elif data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        rows, faults = read_geojson(data, name)
    else:
        rows, faults = read_csv(data, name)
    drafts, more = drafts_of(rows, feeder_id=feeder_id)
    return drafts, [*faults, *more]
