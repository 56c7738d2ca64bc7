"""Compile the detector's kernel while the package is built, where there is a C compiler. Without one, NumPy serves."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("detector/anomaly_detector/native")
FLAGS = ("-O3", "-ffp-contract=off", "-fPIC", "-shared")


def compile_kernel(folder: Path, compiler: str) -> None:
    """Compile `kernel.c` of a folder to `kernel.so`, which knows what it was made from."""
    source, made = folder / "kernel.c", folder / "kernel.so.new"
    known_as = f"-DSOURCE_HASH=0x{hashlib.sha256(source.read_bytes()).hexdigest()[:15]}"
    subprocess.run([compiler, *FLAGS, known_as, "-o", made, source, "-lm"], check=True, capture_output=True)
    made.replace(folder / "kernel.so")


class Kernel(BuildHookInterface):  # type: ignore[type-arg]  # its configuration is of no interest
    """Build `kernel.so` beside `kernel.c` and ship it in wheels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a failure is told and costs speed only."""
        del version
        compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
        if self.target_name != "wheel" or compiler is None:
            return
        folder = Path(self.root) / FOLDER
        try:
            compile_kernel(folder, compiler)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"The kernel was not compiled, NumPy will do its work: {error}")
            return
        build_data["artifacts"].append(f"{FOLDER}/kernel.so")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
