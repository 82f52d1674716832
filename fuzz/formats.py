"""From one file to another, changed the way its own bytes say that it is made."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

from fuzz.hostile import CELLS, HEADERS

Noise = Callable[[bytes], bytes]
"""Changes some bytes without knowing what they are."""

_NPY_MAGIC = b"\x93NUMPY"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_KINDS = (b"tEXt", b"zTXt", b"iCCP", b"tRNS", b"eXIf", b"acTL", b"PLTE", b"IDAT")
_SIDES = (0, 1, 2, 1 << 16, (1 << 31) - 1, (1 << 32) - 1)
# Some changes multiply a file; this keeps a few of them in a row from filling the memory.
_MOST_CHANGED = 1 << 16
# What is packed is unpacked no further than this.
_MOST_UNPACKED = 1 << 20


def change_bytes(data: bytes, random: Random, noise: Noise) -> bytes:
    """Change a file once."""
    data = data[:_MOST_CHANGED]
    if random.random() < 0.25:
        return noise(data)
    for magic, change in _CHANGES.items():
        if data.startswith(magic):
            return change(data, random, noise)
    return _change_csv(data, random, noise) if b"," in data or b"\n" in data else noise(data)


def _change_idx(data: bytes, random: Random, noise: Noise) -> bytes:
    sides = random.choices(_SIDES, k=random.randrange(6))
    return data[:3] + bytes([len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + noise(data[16:])


def _change_csv(data: bytes, random: Random, noise: Noise) -> bytes:
    del noise
    lines = data.splitlines(keepends=True)
    row = random.randrange(len(lines))
    cells = lines[row].rstrip(b"\r\n").split(b",")
    place = random.randrange(len(cells))
    match random.randrange(9):
        case 0:
            lines.insert(row, random.choice(lines))
        case 1:
            del lines[row]
        case 2:
            cells.insert(place, random.choice(cells))
        case 3:
            del cells[place]
        case 4:
            cells *= random.choice((2, 100))
        case 5:
            lines *= random.choice((2, 50))
        case 6:
            return data.replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\n", b"\n\xef\xbb\xbf")))
        case _:
            cells[place] = random.choice(CELLS).encode(errors="replace")
    if row < len(lines):
        lines[row] = b",".join(cells) + b"\n"
    return b"".join(lines)


def _change_gzip(data: bytes, random: Random, noise: Noise) -> bytes:
    try:
        inside = zlib.decompressobj(wbits=31).decompress(data, _MOST_UNPACKED)
    except zlib.error:
        return noise(data)
    match random.randrange(8):
        case 0:
            return data + data
        case 1:
            return data + noise(b"after")
        case 2:
            return gzip.compress(data, 1)
        case 3:
            return gzip.compress(inside[:64].ljust(64, b"0") * (1 << 14), 1)
        case _:
            return gzip.compress(change_bytes(inside, random, noise), 1)


def _change_npy(data: bytes, random: Random, noise: Noise) -> bytes:
    length = int.from_bytes(data[8:10], "little")
    header, rest = data[10 : 10 + length], data[10 + length :]
    version = random.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00"))
    match random.randrange(5):
        case 0:
            header = noise(header)
        case 1 | 2:
            header = random.choice(HEADERS).encode()
        case 3:
            old, new = random.choice((("|u1", "<f8"), ("1", "0"), ("2", "-2"), ("False", "True"), ("(", "((")))
            header = header.replace(old.encode(), new.encode())
        case _:
            rest = noise(rest)
    size = (len(header) & 0xFFFF).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return _NPY_MAGIC + version + size + header + rest


def _change_zip(data: bytes, random: Random, noise: Noise) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError, EOFError, struct.error, IndexError):
        return noise(data)
    name = random.choice([*members, "images.npy"])
    members[name] = change_bytes(members.get(name, _NPY_MAGIC), random, noise)
    if random.random() < 0.2:
        del members[random.choice([*members])]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return file.getvalue()


def _change_png(data: bytes, random: Random, noise: Noise) -> bytes:
    """Change one chunk and set its checksum right, as a decoder wants it."""
    chunks, place = [], len(_PNG_MAGIC)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return noise(data)
    index = random.randrange(len(chunks))
    kind, content = chunks[index]
    if random.random() < 0.2:
        kind = random.choice(_PNG_KINDS)
    chunks[index] = (kind, noise(content))
    written = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return _PNG_MAGIC + b"".join(written)


_CHANGES: dict[bytes, Callable[[bytes, Random, Noise], bytes]] = {
    b"\x1f\x8b": _change_gzip,
    _NPY_MAGIC: _change_npy,
    b"PK": _change_zip,
    _PNG_MAGIC: _change_png,
    b"\0\0\x08": _change_idx,
}
