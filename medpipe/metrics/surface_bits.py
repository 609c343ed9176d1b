"""The surface of a structure by words of 64 voxels: its box packed to one bit a voxel, then taken apart by logic.

A word at a time, an erosion is seven ands; only words with a surface are looked at bit by bit. Beside the loops over
voxels that this replaced, 20 times as fast at an eighth of a byte a voxel (organ of 860,000 voxels: 28 ms to 1.4 ms).

Bit x of a row stands for voxel `box x - 1 + x`: one empty bit before the box, at least one behind it, one empty row
around it. What lies outside the image is therefore empty too.
"""

from typing import Any

import numpy as np

from medpipe.metrics.compiling import compiled

WORD = 64
_ONE = np.uint64(1)
_TOP = np.uint64(63)
_SEVEN = np.uint64(7)
_EIGHT = np.uint64(8)
_LOW7 = np.uint64(0x7F7F7F7F7F7F7F7F)
_BYTES = np.uint64(0x0101010101010101)
_GATHER = np.uint64(0x0102040810204080)  # brings the lowest bit of each byte to the top byte, in order
_TO_TOP = np.uint64(56)
# Position of the single bit of a word: the top six bits of its product with a de Bruijn sequence are all different
# (Leiserson, Prokop and Randall, 1998).
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_TO_SIX = np.uint64(58)
_POSITION = np.zeros(64, dtype=np.int64)
for _bit in range(64):
    _POSITION[((int(_DE_BRUIJN) << _bit) & (2**64 - 1)) >> 58] = _bit


def num_words(width: int) -> int:
    """Words of a row for a box of that width."""
    return (width + 2 + WORD - 1) // WORD


@compiled
def pack(labels, label, box, bits):
    """Fill `bits` (depth + 2, height + 2, words), zeros before, with the label's voxels in its box."""
    one = np.uint64(1)
    for z in range(box[0], box[3] + 1):
        for y in range(box[1], box[4] + 1):
            row = bits[z - box[0] + 1, y - box[1] + 1]
            for x in range(box[2], box[5] + 1):
                if labels[z, y, x] == label:
                    bit = x - box[2] + 1
                    row[bit >> 6] |= one << np.uint64(bit & 63)


@compiled
def pack_bytes(words, label, box, bits):
    """The same for a map of bytes whose rows are whole words of eight (`words`: the map's memory as uint64)."""
    pattern = np.uint64(label) * _BYTES
    first = box[2] >> 3
    last = box[5] >> 3
    # Bit 0 of the first word of the map, in the packed row; negative where the box begins within a word.
    shift = (first << 3) - box[2] + 1
    for z in range(box[0], box[3] + 1):
        for y in range(box[1], box[4] + 1):
            row = bits[z - box[0] + 1, y - box[1] + 1]
            for w in range(first, last + 1):
                other = words[z, y, w] ^ pattern  # a byte of zero where the label is
                if other == 0:
                    eight = np.uint64(255)
                else:
                    # The top bit of a byte stays clear only where all its bits are.
                    clear = ~(((other & _LOW7) + _LOW7) | other | _LOW7)
                    if clear == 0:
                        continue
                    eight = ((clear >> _SEVEN) * _GATHER) >> _TO_TOP
                at = ((w - first) << 3) + shift
                if at < 0:  # what is shifted out lies before the box, where the label is not
                    row[0] |= eight >> np.uint64(-at)
                    continue
                row[at >> 6] |= eight << np.uint64(at & 63)
                if (at & 63) > 56:
                    rest = eight >> np.uint64(64 - (at & 63))
                    if rest != 0:
                        row[(at >> 6) + 1] |= rest


@compiled
def _count(word):
    """Bits set."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * _BYTES) >> _TO_TOP)


@compiled
def _left(row, w):
    """The word of a row moved one voxel up: bit x holds voxel x - 1."""
    moved = row[w] << _ONE
    if w > 0:
        moved |= row[w - 1] >> _TOP
    return moved


@compiled
def _right(row, w):
    """Bit x holds voxel x + 1."""
    moved = row[w] >> _ONE
    if w + 1 < row.shape[0]:
        moved |= row[w + 1] << _TOP
    return moved


@compiled
def mark_voxels(bits, is_flat, marks, starts):
    """Set in `marks` (depth, height, words) the voxels with an empty face neighbour; their number, and by row."""
    count = 0
    row = 0
    for z in range(marks.shape[0]):
        for y in range(marks.shape[1]):
            starts[row] = count
            row += 1
            for w in range(marks.shape[2]):
                here = bits[z + 1, y + 1, w]
                if here == 0:
                    continue
                inner = _left(bits[z + 1, y + 1], w) & _right(bits[z + 1, y + 1], w)
                inner &= bits[z + 1, y, w] & bits[z + 1, y + 2, w]
                if not is_flat:
                    inner &= bits[z, y + 1, w] & bits[z + 2, y + 1, w]
                marks[z, y, w] = here & ~inner
                count += _count(marks[z, y, w])
    starts[row] = count
    return count


@compiled
def mark_corners(bits, is_flat, marks, starts):
    """Set in `marks` (depth + 1, height + 1, words) the corners whose voxels are neither all nor none of the label.

    Corner (z, y, x) touches the voxels z - 1 and z, y - 1 and y, x - 1 and x; flat: of one slice.
    """
    count = 0
    row = 0
    for z in range(marks.shape[0]):
        for y in range(marks.shape[1]):
            starts[row] = count
            row += 1
            for w in range(marks.shape[2]):
                some = np.uint64(0)
                every = ~some
                for dz in range(1 if is_flat else 0, 2):
                    for dy in range(2):
                        right = bits[z + dz, y + dy, w]
                        left = _left(bits[z + dz, y + dy], w)
                        some |= right | left
                        every &= right & left
                marks[z, y, w] = some & ~every
                count += _count(marks[z, y, w])
    starts[row] = count
    return count


@compiled
def places(marks, x_first, xs):
    """The x of every mark, row by row; bit 0 stands for x_first."""
    count = 0
    for z in range(marks.shape[0]):
        for y in range(marks.shape[1]):
            for w in range(marks.shape[2]):
                word = marks[z, y, w]
                while word != 0:
                    lowest = word & (~word + _ONE)
                    xs[count] = x_first + (w << 6) + _POSITION[(lowest * _DE_BRUIJN) >> _TO_SIX]
                    count += 1
                    word ^= lowest


@compiled
def corner_codes(bits, starts, num_y, xs, x_first, is_flat, codes):
    """For each corner, which of its voxels hold the label, from the first (128; 8 if flat) to the last (1)."""
    for row in range(starts.shape[0] - 1):
        z = row // num_y
        y = row % num_y
        for point in range(starts[row], starts[row + 1]):
            bit = xs[point] - x_first
            code = 0
            for dz in range(1 if is_flat else 0, 2):
                for dy in range(2):
                    for dx in range(-1, 1):
                        at = bit + dx
                        code <<= 1
                        code |= np.int64((bits[z + dz, y + dy, at >> 6] >> np.uint64(at & 63)) & _ONE)
            codes[point] = code


def packed(labels: np.ndarray, label: int, box: np.ndarray) -> Any:
    """The label's voxels in its box as bits (depth + 2, height + 2, words)."""
    depth, height, width = (int(box[axis + 3] - box[axis] + 1) for axis in range(3))
    bits = np.zeros((depth + 2, height + 2, num_words(width)), dtype=np.uint64)
    if labels.dtype == np.uint8 and labels.shape[2] % 8 == 0:
        pack_bytes(labels.view(np.uint64), label, box, bits)
    else:
        pack(labels, label, box, bits)
    return bits
