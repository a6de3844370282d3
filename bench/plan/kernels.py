"""The kernels that a plan chooses from: those of mlr, of installed packages, of a user's file."""

from __future__ import annotations

from mlr import KernelFileError, load_installed, load_kernels

from ..common.errors import UserError


def load_user_kernels(kernel_file: str | None) -> None:
    """Register the kernels of installed packages and of a file.

    Raises:
        UserError: The file is missing, or is no kernel file.
    """
    try:
        load_installed()
        if kernel_file is not None:
            load_kernels(kernel_file)
    except KernelFileError as error:
        raise UserError(str(error)) from error
