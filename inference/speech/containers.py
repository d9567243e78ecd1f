"""What containers say about their own length, where FFmpeg hides it.

FFmpeg computes the duration of a WAV from the bytes that are there and never looks for an Ogg stream's end, so a
recording that was cut off looks whole. Both formats tell the truth in a few bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path

# Writers of block codecs such as GSM count a last block that they do not fill.
_RIFF_SLACK_BYTES = 1024
# RIFF writers that stream do not know the size yet and leave one of these.
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
_OGG_LAST_PAGE = 0x04
# An Ogg page is at most 65,307 bytes, so the last page starts within so many of the end.
_OGG_MAX_PAGE = 65_307


def is_cut_short(path: Path) -> bool:
    """True when the container itself says that bytes are missing at its end (WAV, Ogg); False if it cannot tell."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"RIFF":
        return _riff_data_is_missing(path)
    return magic == b"OggS" and not _ogg_stream_ends(path)


def _riff_data_is_missing(path: Path) -> bool:
    file_size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":
                return (
                    size not in _UNKNOWN_SIZES
                    and file.tell() + size > file_size + _RIFF_SLACK_BYTES
                )
            file.seek(size + size % 2, 1)
    return False


def _ogg_stream_ends(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _OGG_MAX_PAGE))
        tail = file.read()
    last_page = tail.rfind(b"OggS")
    return (
        last_page >= 0 and len(tail) > last_page + 5 and bool(tail[last_page + 5] & _OGG_LAST_PAGE)
    )
