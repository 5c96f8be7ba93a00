"""Serves the same purpose in the usual first shape of such a service: Flask, SQLAlchemy, Postgres.

A request compares the device's secret with the stored plain text, and inserts one row. gunicorn
serves it: `gunicorn --workers 2 --threads 8 benchmarks.seed_shape:app`. The database's URL is in
SEED_DATABASE; `python -m benchmarks.seed_shape DEVICES` populates it.
"""

import os
import re
import sys
from datetime import datetime
from secrets import compare_digest

from flask import Flask, Response, request
from sqlalchemy import ForeignKey, create_engine, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(os.environ["SEED_DATABASE"], pool_size=8)
app = Flask(__name__)

VERSION = re.compile(r"SemVer\d+\.\d+")


class Base(DeclarativeBase):
    """Is the base of all tables."""


class Device(Base):
    """Holds a device with its secret in plain text."""

    __tablename__ = "devices"
    id: Mapped[int] = mapped_column(primary_key=True)
    secret: Mapped[str]


class DeviceFirmwareUpdate(Base):
    """Holds one report."""

    __tablename__ = "device_firmware_updates"
    id: Mapped[int] = mapped_column(primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    version: Mapped[str]
    date: Mapped[datetime] = mapped_column(server_default=func.now())


def populate(devices: int) -> None:
    """Creates the tables, and the devices 0, 1, 2 … with their secrets."""
    Base.metadata.create_all(engine)
    series = text(
        "INSERT INTO devices (id, secret) "
        "SELECT n, 'secret-of-' || n FROM generate_series(0, :last) AS n"
    )
    with engine.begin() as connection:
        connection.execute(series, {"last": devices - 1})


@app.post("/upload_firmware_update")
def upload_firmware_update() -> Response:
    """Records one report."""
    body = request.get_json()
    with Session(engine) as session:
        device = session.get(Device, body["device_id"])
        if device is None or not compare_digest(device.secret, body["secret"]):
            return Response("Invalid Request", 401)
        if not VERSION.fullmatch(body["version"]):
            return Response("Version string formatting not valid", 400)
        session.add(DeviceFirmwareUpdate(device_id=device.id, version=body["version"]))
        session.commit()
    return Response("Successfully updated firmware version")


if __name__ == "__main__":
    populate(int(sys.argv[1]))
