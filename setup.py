"""The one piece of native code; everything else is in pyproject.toml.

A mount works without it, slower. So a failure to build it is none of the installation.
"""

from setuptools import Extension, setup

TAP = Extension(
    "dfs.mount.fusetap._tap",
    ["dfs/mount/fusetap/_tap.c"],
    extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra"],
    optional=True,
)

setup(ext_modules=[TAP])
