"""Compiles the probe's usual execution, where there is a C compiler; without one the package is as complete, and slower there."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

MODULE = "layerwatch.probe._usual"
SOURCE = "services/layerwatch/probe/_usual.c"


class CompiledProbe(BuildHookInterface):
    """Builds in place, so that an editable installation finds it too; a wheel that has it is for one kind of machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or sys.platform != "linux" or sys.byteorder != "little":
            return
        source = Path(self.root) / SOURCE
        built = source.with_name("_usual" + str(sysconfig.get_config_var("EXT_SUFFIX")))
        built.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            extension = Extension(
                MODULE, [os.path.relpath(source)], extra_compile_args=["-Os"], optional=True
            )
            command = build_ext(Distribution({"ext_modules": [extension]}))
            command.build_temp = command.build_lib = folder
            command.ensure_finalized()
            command.run()
            made = (Path(folder) / MODULE.replace(".", "/")).with_name(built.name)
            if not made.exists():
                return
            shutil.move(made, built)
        build_data["pure_python"], build_data["infer_tag"] = False, True
        if version != "editable":
            build_data["force_include"][str(built)] = f"layerwatch/probe/{built.name}"
