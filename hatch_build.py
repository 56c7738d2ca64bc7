"""Compile the detector's kernel while the package is built, where there is a C compiler. Without one, NumPy serves."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("detector/anomaly_detector/native")
FLAGS = ("-O3", "-ffp-contract=off", "-fPIC", "-shared")


class Kernel(BuildHookInterface):  # type: ignore[type-arg]  # its configuration is of no interest
    """Build `kernel.so` beside `kernel.c` and ship it in wheels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a failure is told and costs speed only."""
        del version
        compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if self.target_name != "wheel" or compiler is None:
            return
        folder = Path(self.root) / FOLDER
        made = folder / "kernel.so.new"
        try:
            subprocess.run([compiler, *FLAGS, "-o", made, folder / "kernel.c", "-lm"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"The kernel was not compiled, NumPy will do its work: {error}")
            return
        made.replace(folder / "kernel.so")
        build_data["artifacts"].append(f"{FOLDER}/kernel.so")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
