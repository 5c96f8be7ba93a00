"""Tests how `firmtrail doctor` and the benchmarks describe builds of Python."""

import pytest

from firmtrail.cli.python_build import described


@pytest.mark.parametrize(
    ("configured", "prefix", "said"),
    [
        (
            "'--enable-shared' '--with-lto' '--enable-optimizations' 'CFLAGS=-O3 -g'",
            "/usr/local",
            "built with --with-lto and --enable-optimizations",
        ),
        ("'--with-lto=full'", "/opt", "built with --with-lto=full"),
        ("'--prefix=/usr' '--with-dtrace'", "/usr", "does not record"),
        ("", "C:\\Python", "does not record"),
        (
            "'--enable-shared'",
            "/home/ann/.pyenv",
            "built without --enable-optimizations: it is slower",
        ),
    ],
)
def test_a_build_is_described_by_what_it_records(configured: str, prefix: str, said: str) -> None:
    assert said in described(configured, prefix)
