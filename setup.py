"""Builds the kernels of ``_ext/`` into the package ``nova_fast._ext``; everything else is in ``pyproject.toml``."""

from Cython.Build import cythonize
from setuptools import Extension, setup

# -ffp-contract=off is compulsory: with fused multiply-add another CPU could choose another host.
COMPILE_ARGS = ["-O3", "-ffp-contract=off", "-fno-trapping-math"]
FLEET_HEADERS = ["_ext/fleet_columns.h", "_ext/fleet_scan.h", "_ext/fleet_index.h", "_ext/fleet_search.h"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                "nova_fast._ext.fleet",
                ["_ext/fleet.pyx"],
                include_dirs=["_ext"],
                depends=["_ext/fleet.pyx", "_ext/fleet.pxd", *FLEET_HEADERS, "_ext/fleet_sieve.h"],
                extra_compile_args=COMPILE_ARGS,
            ),
        ],
        include_path=["_ext"],
        build_dir="build/cython",
    )
)
