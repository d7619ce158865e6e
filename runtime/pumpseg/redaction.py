"""What logs, outputs and errors show of a URL."""

from __future__ import annotations

import re
from urllib.parse import unquote

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_MISTYPED_USER = re.compile(r"(?<=:/)[^\s/@]+@")  # Path makes http:/ of http://
_HOST = re.compile(r"(\[[^\]@]*\]|[^\[\]:@]+)(:\d{1,5})?")


def redacted(name: str) -> str:
    """The scheme, host and last part of the path of a URL; anything else as it is.

    Cameras take passwords in front of the host, in the path and in the query, by names that nobody can list. So the
    user, the folders of the path, the query and a last part that looks like parameters are left out.
    """
    scheme, separator, rest = name.partition("://")
    if not separator or scheme.lower() == "file":
        return name
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    if not _HOST.fullmatch(host):
        return f"{scheme}://***"  # a password with unescaped characters, or no host at all
    path = re.split(r"[?#]", rest[len(authority) :], maxsplit=1)[0]
    folders, _, last = path.rpartition("/")
    last = re.split("[;&]", unquote(last), maxsplit=1)[0]
    if "=" in last or "@" in last or "://" in last:
        last = "***"
    return f"{scheme}://{host}{'/...' if folders else ''}{'/' if path else ''}{last}"


def redacted_text(text: str) -> str:
    """A text, such as another library's error, with every URL in it redacted."""
    return _MISTYPED_USER.sub("***@", _URL.sub(lambda match: redacted(match[0]), text))
