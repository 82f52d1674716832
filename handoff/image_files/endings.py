"""Whether the bytes of a picture go on to its end mark; decoders are done before, and miss what is cut off there."""

from __future__ import annotations

import re

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
# Length and name before a chunk's data, a checksum behind it.
_PNG_AROUND_BYTES = 12

_JPEG_SIGNATURE = b"\xff\xd8"
_JPEG_END = 0xD9
# Not 0, which says that the FF before it is data; D0 to D7 stand among data, and 1 and D8 alone, all without a length.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])", re.DOTALL)


def reaches_end(data: bytes) -> bool:
    """Say whether a PNG or JPEG file is there to its end mark; of other formats, True.

    Source: PNG (ISO/IEC 15948), section 5.3, "Chunk layout"; JPEG (ITU-T T.81), annex B.1.1
    """
    if data.startswith(_PNG_SIGNATURE):
        return _png_reaches_end(data)
    return not data.startswith(_JPEG_SIGNATURE) or _jpeg_reaches_end(data)


def _png_reaches_end(data: bytes) -> bool:
    position = len(_PNG_SIGNATURE)
    while position + _PNG_AROUND_BYTES <= len(data):
        name = data[position + 4 : position + 8]
        position += _PNG_AROUND_BYTES + int.from_bytes(data[position : position + 4])
        if name == _PNG_END:
            return position <= len(data)
    return False


def _jpeg_reaches_end(data: bytes) -> bool:
    position = len(_JPEG_SIGNATURE)
    while (found := _JPEG_MARKER.search(data, position)) is not None:
        if data[found.end() - 1] == _JPEG_END:
            return True
        # Segments are passed by their length, for a thumbnail in one has an end mark too; data behind a scan's, by eye.
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return False
