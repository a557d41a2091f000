#!/usr/bin/env python3
"""Spools as text, so that small ones can be kept: of each file its path and size, and each 32 bytes that are not all zero.

usage: images.py pack DIR >FILE        images.py unpack FILE DIR
"""
import os
import sys

ROW = 32


def pack(directory):
    lines = []
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                content = file.read()
            lines.append("file %s %d" % (os.path.relpath(path, directory), len(content)))
            for at in range(0, len(content), ROW):
                row = content[at : at + ROW]
                if any(row):
                    lines.append("%06x %s" % (at, row.hex()))
    return "\n".join(lines) + "\n"


def unpack(text, directory):
    path = None
    for line in text.splitlines():
        words = line.split(" ")
        if words[0] == "file":
            path = os.path.join(directory, words[1])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.truncate(int(words[2]))
        else:
            with open(path, "r+b") as file:
                file.seek(int(words[0], 16))
                file.write(bytes.fromhex(words[1]))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "pack":
        sys.stdout.write(pack(sys.argv[2]))
    elif len(sys.argv) == 4 and sys.argv[1] == "unpack":
        with open(sys.argv[2], encoding="ascii") as image:
            unpack(image.read(), sys.argv[3])
    else:
        sys.exit(__doc__)
