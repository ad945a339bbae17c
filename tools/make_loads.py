"""Make the village's load shapes anew: appliances.toml in, one CSV per customer class out.

Run it with RAMP in an environment of its own (`rampdemand` is EUPL-1.2 and no part of this product;
what it computes from our own tables is ours):

    python3.11 -m venv /tmp/ramp && /tmp/ramp/bin/pip install 'rampdemand==0.5.2'
    /tmp/ramp/bin/python tools/make_loads.py

The seed is fixed in appliances.toml, so the same versions make the same files, byte for byte.
"""

import csv
import random
import sys
import tomllib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ramp import UseCase, User

LOADS = Path(__file__).resolve().parent.parent / "src/openami/simulator/loads"
MINUTES_PER_DAY = 1440
_DAYS = {"weekdays": 0, "weekend": 1, "all": 2}
_FIRST_DAY = 0  # RAMP's power series are constant here, so any day of its year is the same


def main() -> None:
    """Write every class's file, and say what a day of it amounts to."""
    table = tomllib.loads((LOADS / "appliances.toml").read_text())
    for name, entry in table["class"].items():
        # A seed for each class, so that changing one class leaves the others' files alone.
        seed = table["seed"] + zlib.crc32(name.encode())
        random.seed(seed)
        np.random.seed(seed % 2**32)
        columns = dict(_days(name, entry, table))
        _write(LOADS / f"{name}.csv", columns)
        energy_kwh = [day.sum() / 60_000 for day in columns.values()]
        peak_w = max(day.max() for day in columns.values())
        sys.stdout.write(
            f"{name:12} {min(energy_kwh):6.2f} to {max(energy_kwh):6.2f} kWh a day, "
            f"mean {np.mean(energy_kwh):6.2f}, peak {peak_w} W\n"
        )


def _days(
    name: str, entry: Mapping[str, Any], table: Mapping[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each variant's days: weekdays first, then weekends."""
    for variant in range(1, table["variants"] + 1):
        user = _user(name, entry["appliance"])
        kinds = [("wd", 0, table["weekdays"]), ("we", 1, table["weekends"])]
        for label, day_type, count in kinds:
            for day in range(1, count + 1):
                load = user.generate_single_load_profile(_FIRST_DAY, day_type=day_type)
                yield f"{variant}{label}{day}", np.rint(load).astype(int)


def _user(name: str, appliances: list[dict[str, Any]]) -> User:
    user = User(user_name=name, num_users=1)
    for row in appliances:
        appliance = user.add_appliance(
            name=row["name"],
            number=row["number"],
            power=row["power"],
            num_windows=len(row["windows"]),
            func_time=row["minutes"],
            func_cycle=row["least"],
            time_fraction_random_variability=row.get("spread", 0),
            occasional_use=row.get("chance", 1),
            fixed="yes" if row.get("together") or "duty" in row else "no",
            wd_we_type=_DAYS[row.get("days", "all")],
            fixed_cycle=1 if "duty" in row else 0,
        )
        windows = {f"window_{i}": window for i, window in enumerate(row["windows"], start=1)}
        appliance.windows(**windows, random_var_w=row.get("shift", 0))
        if "duty" in row:
            on_w, on_minutes, off_w, off_minutes = row["duty"]
            appliance.specific_cycle_1(
                p_11=on_w, t_11=on_minutes, p_12=off_w, t_12=off_minutes, r_c1=0.1
            )
            appliance.cycle_behaviour(cw11=[0, MINUTES_PER_DAY])
    usecase = UseCase(name=name, users=[user])
    usecase.peak_time_range = usecase.calc_peak_time_range(peak_enlarge=0.15)
    return user


def _write(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["minute", *columns])
        for minute in range(MINUTES_PER_DAY):
            rows.writerow([minute, *(day[minute] for day in columns.values())])


if __name__ == "__main__":
    main()
