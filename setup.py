"""What pyproject.toml can't say: a compiled binding that may be missing, and data that lies beside the packages.

Without a C compiler (or without Python's headers) the extension is skipped and minivmm.kvm uses cffi's ABI mode.
guests/, labs/ and solutions/ stay at the top of the repository, where people look for them; a wheel carries them as
minivmm/_data, and minivmm/resources.py finds either.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

DATA = ("guests", "labs", "solutions")


class BuildWhereThereIsACompiler(build_ext):
    def build_extensions(self):
        for extension in self.extensions:
            extension.optional = True
        super().build_extensions()


class BuildWithData(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        for folder in DATA:
            target = Path(self.build_lib) / "minivmm" / "_data" / folder
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "build"))


setup(
    cffi_modules=["minivmm/kvm/build_ffi.py:ffibuilder", "minivmm/soft/build_native.py:ffibuilder"],
    cmdclass={"build_ext": BuildWhereThereIsACompiler, "build_py": BuildWithData},
)
