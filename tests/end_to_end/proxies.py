"""Starts proxies in front of servers for tests."""

import asyncio
import os
import socket
import subprocess
import time
from pathlib import Path

from tests.patience import PATIENCE_S

DEPLOY = Path(__file__).parents[2] / "deploy"


def replaced(text: str, changes: dict[str, str]) -> str:
    """Replaces each of these in the text, which must contain it."""
    for old, new in changes.items():
        assert old in text, f"{old} is not in the configuration"
        text = text.replace(old, new)
    return text


def certificate(folder: Path) -> tuple[Path, Path]:
    crt, key = folder / "fleet.crt", folder / "fleet.key"
    curve = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    command = ["openssl", "req", "-x509", "-newkey", *curve, "-nodes", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(crt)], check=True)
    (folder / "fleet.pem").write_bytes(crt.read_bytes() + key.read_bytes())
    return crt, key


def nginx(folder: Path, port: int, upstream: str) -> list[str]:
    text = replaced(
        (DEPLOY / "nginx.conf").read_text(),
        {
            "/run/nginx.pid": str(folder / "nginx.pid"),
            "/var/log/nginx/error.log": str(folder / "error.log"),
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "127.0.0.1:8080": upstream,
            "/etc/ssl/": f"{folder}/",
            "access_log off;": " ".join(
                f"{name}_temp_path {folder}/{name};"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + " access_log off;",
        },
    )
    if os.geteuid() == 0:
        text = f"user root;\n{text}"
    (folder / "nginx.conf").write_text(text)
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]


def haproxy(folder: Path, port: int, upstream: str) -> list[str]:
    text = replaced(
        (DEPLOY / "haproxy.cfg").read_text(),
        {
            "bind :443 ": f"bind 127.0.0.1:{port} ",
            "127.0.0.1:8080": upstream,
            "/etc/ssl/": f"{folder}/",
        },
    )
    (folder / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


async def until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the proxy runs"
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.05)
    raise AssertionError("the proxy listens")
