"""Write files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from ..errors import BadRequest, StoreFailure

logger = logging.getLogger("vllm_wsgi.host")


@contextlib.contextmanager
def storing() -> Any:
    """Raise StoreFailure in place of an OSError, and BadRequest when the file system refuses a name."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
            raise BadRequest(f"the file system takes no such name: {error.strerror}") from None
        logger.error("the model store: %s", error)
        raise StoreFailure(f"the model store can't be written: {error.strerror or error}") from None


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file so that a crash at any moment leaves the old one or the new one, whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            raise
    sync(path.parent)


def is_own_file(path: Path) -> bool:
    """Return whether there is a regular file. A symbolic link is not one: it could lead out of the store."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def sync(directory: Path) -> None:
    """Flush a directory to disk, without which a new or removed entry may be lost in a crash. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
