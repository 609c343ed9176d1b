"""The compiled loops of the surface metrics: scanning label maps, taking surfaces, finding the nearest surface point.

numba, without its own threads: the loops release the interpreter's lock, and `label_maps` runs structures side by side.
Compiled on first use and kept on disk beside the package (or in the user's cache folder; in memory where neither can be
written), so that a later process only loads them.

Surface points are kept row by row, a row being the voxels of one (z, y): `starts` (rows + 1) into `xs`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

FAR = 255  # in a table of distances along a row: 255 voxels or more, or none in this row


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled on first use; cached on disk where there is a folder to write to."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return njit(nogil=True)(function)


@compiled
def scan(ref, pred, ref_words, pred_words, first, last, counts, boxes):
    """Slices first to last of two label maps (D, H, W): voxels and boxes of every label from 1.

    *_words  the same memory as wide words, so that background is passed over several voxels at a time
    counts   (3, labels): voxels in ref, in pred, in both; added to
    boxes    (2, labels, 6): lowest z, y, x and highest z, y, x in ref and in pred; widened
    """
    num_labels = counts.shape[1]
    per_word = ref.shape[2] // ref_words.shape[2]
    for z in range(first, last):
        for y in range(ref.shape[1]):
            for word in range(ref_words.shape[2]):
                if ref_words[z, y, word] == 0 and pred_words[z, y, word] == 0:
                    continue
                for x in range(word * per_word, (word + 1) * per_word):
                    a = ref[z, y, x]
                    b = pred[z, y, x]
                    if a > 0 and a < num_labels:
                        counts[0, a] += 1
                        _widen(boxes, 0, a, z, y, x)
                        if a == b:
                            counts[2, a] += 1
                    if b > 0 and b < num_labels:
                        counts[1, b] += 1
                        _widen(boxes, 1, b, z, y, x)


@compiled
def _widen(boxes, which, label, z, y, x):
    box = boxes[which, label]
    box[0] = min(box[0], z)
    box[1] = min(box[1], y)
    box[2] = min(box[2], x)
    box[3] = max(box[3], z)
    box[4] = max(box[4], y)
    box[5] = max(box[5], x)


@compiled
def voxel_surface(labels, label, box, is_flat, starts, xs):
    """The label's surface voxels inside its box: those with a face neighbour of another label or outside the array.

    is_flat: a single slice that stands for a 2D mask, whose neighbours are in the plane only. Returns their number.
    """
    depth, height, width = labels.shape
    count = 0
    row = 0
    for z in range(box[0], box[3] + 1):
        for y in range(box[1], box[4] + 1):
            starts[row] = count
            row += 1
            on_border = y == 0 or y == height - 1 or (not is_flat and (z == 0 or z == depth - 1))
            for x in range(box[2], box[5] + 1):
                if labels[z, y, x] != label:
                    continue
                if (
                    on_border
                    or x == 0
                    or x == width - 1
                    or labels[z, y, x - 1] != label
                    or labels[z, y, x + 1] != label
                    or labels[z, y - 1, x] != label
                    or labels[z, y + 1, x] != label
                    or (not is_flat and (labels[z - 1, y, x] != label or labels[z + 1, y, x] != label))
                ):
                    xs[count] = x
                    count += 1
    starts[row] = count
    return count


@compiled
def corner_surface(labels, label, box, is_flat, starts, xs, codes):
    """The lattice corners between voxels where the label's surface passes, and the code of their neighbourhood.

    Corner (z, y, x) touches the voxels z - 1 and z, y - 1 and y, x - 1 and x; bit by bit from the first (128, or 8 in
    2D) to the last (1), the code says which of them hold the label: all or none is no surface. Returns their number.
    """
    depth, height, width = labels.shape
    full = 15 if is_flat else 255
    count = 0
    row = 0
    for z in range(box[0], box[3] + (1 if is_flat else 2)):
        for y in range(box[1], box[4] + 2):
            starts[row] = count
            row += 1
            left = 0
            for x in range(box[2], box[5] + 2):
                right = 0
                if x < width:
                    if y > 0:
                        if not is_flat and z > 0 and labels[z - 1, y - 1, x] == label:
                            right |= 64
                        if z < depth and labels[z, y - 1, x] == label:
                            right |= 4
                    if y < height:
                        if not is_flat and z > 0 and labels[z - 1, y, x] == label:
                            right |= 16
                        if z < depth and labels[z, y, x] == label:
                            right |= 1
                code = (left << 1) | right
                left = right
                if code != 0 and code != full:
                    xs[count] = x
                    codes[count] = code
                    count += 1
    starts[row] = count
    return count


@compiled
def row_table(starts, xs, x_first, slots, table):
    """For each row with points and x from x_first, the voxels along x to its nearest point; FAR where beyond 254.

    slots: (rows,) where each row stands in `table`, -1 for a row without points; filled here. Empty rows take no room:
    a far island makes a structure's box as large as the image.
    """
    width = table.shape[1]
    row = 0
    for any_row in range(slots.shape[0]):
        point = starts[any_row]
        end = starts[any_row + 1]
        slots[any_row] = -1 if point == end else row
        if point == end:
            continue
        distance = FAR
        for i in range(width):
            if point < end and xs[point] - x_first == i:
                distance = 0
                point += 1
            elif distance < FAR:
                distance += 1
            table[row, i] = distance
        distance = FAR
        for i in range(width - 1, -1, -1):
            if table[row, i] == 0:
                distance = 0
            elif distance < FAR:
                distance += 1
            if distance < table[row, i]:
                table[row, i] = distance
        row += 1


@compiled
def nearest_by_rows(
    origin, num_y, starts, xs, to_shape, slots, table, x_first, offsets, offset_mm2, x_mm2, limit_mm2, step, out
):
    """Squared distance from each step-th point to the nearest of another set; infinite where not below limit_mm2.

    origin      (z, y) of the first row, counted from the other set's first row; num_y: its rows a slice
    slots, table  of the other set as `row_table` makes them, from x_first; x_mm2: squared mm of its entries
    offsets     (z, y) steps between rows by increasing squared mm (offset_mm2): the search ends where the step alone is
                farther than the nearest point so far, so it is exact

    Returns how many were not found.
    """
    num_missing = 0
    for row in range(starts.shape[0] - 1):
        z = origin[0] + row // num_y
        y = origin[1] + row % num_y
        for point in range(starts[row], starts[row + 1]):
            if point % step != 0:
                continue
            best = limit_mm2
            x = xs[point] - x_first
            if x >= 0 and x < table.shape[1]:
                for k in range(offset_mm2.shape[0]):
                    beside = offset_mm2[k]
                    if beside >= best:
                        break
                    other_z = z + offsets[k, 0]
                    other_y = y + offsets[k, 1]
                    if other_z < 0 or other_z >= to_shape[0] or other_y < 0 or other_y >= to_shape[1]:
                        continue
                    slot = slots[other_z * to_shape[1] + other_y]
                    if slot < 0:
                        continue
                    along = table[slot, x]
                    if along != FAR:
                        best = min(best, beside + x_mm2[along])
            if best < limit_mm2:
                out[point] = best
            else:
                out[point] = np.inf
                num_missing += 1
    return num_missing


@compiled
def nearest_by_planes(zs, ys, xs, to_shape, to_starts, to_xs, spacing_mm, out):
    """Squared distance from points to the nearest of another set, however far: plane by plane of constant x.

    zs, ys, xs   of the points, ordered by xs; z and y counted from the other set's first row

    In each plane that holds points: the distance along x in every row of the other set, then per slice the lower
    envelope of parabolas along y (Felzenszwalb and Huttenlocher, 2012, doi:10.4086/toc.2012.v008a019) where points are,
    then for each point the minimum over slices. Memory: one plane.
    """
    num_z, num_y = to_shape
    sz, sy, sx = spacing_mm
    lowest_y = ys.min()
    plane = np.empty((num_z, ys.max() - lowest_y + 1))
    behind = to_starts[:-1].copy()  # in each row, the last point at or below x, or the first
    vertex = np.empty(num_y, dtype=np.int64)
    height_mm2 = np.empty(num_y)
    begins = np.empty(num_y)
    first = 0
    while first < xs.shape[0]:
        x = xs[first]
        last = first
        low = ys[first]
        high = ys[first]
        while last < xs.shape[0] and xs[last] == x:
            low = min(low, ys[last])
            high = max(high, ys[last])
            last += 1
        for z in range(num_z):
            count = 0
            for y in range(num_y):
                row = z * num_y + y
                end = to_starts[row + 1]
                point = behind[row]
                if point == end:
                    continue
                while point + 1 < end and to_xs[point + 1] <= x:
                    point += 1
                behind[row] = point
                along = abs(to_xs[point] - x)
                if point + 1 < end:
                    along = min(along, to_xs[point + 1] - x)
                here = (along * sx) ** 2
                begin = -np.inf
                while count > 0:
                    top = vertex[count - 1]
                    raised = here - height_mm2[count - 1] + sy * sy * (y * y - top * top)
                    begin = raised / (2 * sy * sy * (y - top))
                    if count > 1 and begin <= begins[count - 1]:
                        count -= 1
                    else:
                        break
                vertex[count] = y
                height_mm2[count] = here
                begins[count] = begin
                count += 1
            k = 0
            for y in range(low, high + 1):
                if count == 0:
                    plane[z, y - lowest_y] = np.inf
                    continue
                while k + 1 < count and begins[k + 1] < y:
                    k += 1
                plane[z, y - lowest_y] = height_mm2[k] + ((y - vertex[k]) * sy) ** 2
        for point in range(first, last):
            best = np.inf
            for z in range(num_z):
                best = min(best, ((z - zs[point]) * sz) ** 2 + plane[z, ys[point] - lowest_y])
            out[point] = best
        first = last
