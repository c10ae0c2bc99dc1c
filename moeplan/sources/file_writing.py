"""Files replaced in one piece: who reads sees the old one or the new one, and nothing is left behind where it fails."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` to the file at `path`, which keeps its mode; a new file has that of the user's umask. A link stays one.

    Raises OSError. Whatever ends it, Ctrl-C too, leaves no draft in the folder.
    """
    place = os.path.realpath(path)
    folder, name = os.path.split(place)
    draft = os.path.join(folder, f".{name[:100]}-{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        # The kernel takes the umask off: to read it, a process would have to change it.
        with os.fdopen(os.open(draft, flags, 0o666), "wb") as file:
            file.write(data)
        with suppress(FileNotFoundError):
            os.chmod(draft, stat.S_IMODE(os.stat(place).st_mode))
        os.replace(draft, place)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
