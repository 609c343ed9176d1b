"""The compiled loops of the surface metrics: scanning label maps, finding the nearest surface point.

numba, without its own threads: the loops release the interpreter's lock, and `label_maps` runs structures side by side.
Compiled on first use and kept on disk beside the package (or in the user's cache folder; in memory where neither can be
written), so that a later process only loads them.

Surface points are kept row by row, a row being the voxels of one (z, y): `starts` (rows + 1) into `xs`.
"""

import numpy as np

from medpipe.metrics.compiling import compiled

FAR = 255  # in a table of distances along a row: 255 voxels or more, or none in this row


@compiled
def scan(ref, pred, ref_words, pred_words, first, last, element, counts, boxes):
    """Slices first to last of two label maps (D, H, W): voxels and boxes of every label from 1.

    *_words  the same memory as wide words: one that goes on with the pair of labels before it is passed over whole
    element  the bits of one voxel in a word
    counts   (3, labels): voxels in ref, in pred, in both; added to
    boxes    (2, labels, 6): lowest z, y, x and highest z, y, x in ref and in pred; widened
    """
    per_word = ref.shape[2] // ref_words.shape[2]
    repeat = np.uint64(0)
    for _ in range(per_word):
        repeat = (repeat << np.uint64(8 * ref.itemsize % 64)) | np.uint64(1)
    for z in range(first, last):
        for y in range(ref.shape[1]):
            a = ref[z, y, 0]
            b = pred[z, y, 0]
            begin = 0
            going_on_ref = (np.uint64(a) & element) * repeat
            going_on_pred = (np.uint64(b) & element) * repeat
            for word in range(ref_words.shape[2]):
                if ref_words[z, y, word] == going_on_ref and pred_words[z, y, word] == going_on_pred:
                    continue
                for x in range(word * per_word, (word + 1) * per_word):
                    if ref[z, y, x] != a or pred[z, y, x] != b:
                        _count_run(counts, boxes, a, b, z, y, begin, x)
                        a = ref[z, y, x]
                        b = pred[z, y, x]
                        begin = x
                going_on_ref = (np.uint64(a) & element) * repeat
                going_on_pred = (np.uint64(b) & element) * repeat
            _count_run(counts, boxes, a, b, z, y, begin, ref.shape[2])


@compiled
def _count_run(counts, boxes, a, b, z, y, begin, end):
    """Voxels begin to end of a row that hold a in the reference and b in the prediction."""
    num_labels = counts.shape[1]
    if a > 0 and a < num_labels:
        counts[0, a] += end - begin
        _widen(boxes[0, a], z, y, begin, end - 1)
        if a == b:
            counts[2, a] += end - begin
    if b > 0 and b < num_labels:
        counts[1, b] += end - begin
        _widen(boxes[1, b], z, y, begin, end - 1)


@compiled
def _widen(box, z, y, x_low, x_high):
    box[0] = min(box[0], z)
    box[1] = min(box[1], y)
    box[2] = min(box[2], x_low)
    box[3] = max(box[3], z)
    box[4] = max(box[4], y)
    box[5] = max(box[5], x_high)


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
        here = xs[point] - x_first
        _fill_ramp(table[row], here, -1, here)
        for nearby in range(point + 1, end):
            there = xs[nearby] - x_first
            half = (there - here) // 2
            _fill_ramp(table[row], here, 1, half)
            _fill_ramp(table[row], there, -1, there - here - half - 1)
            here = there
        _fill_ramp(table[row], here, 1, width - 1 - here)
        row += 1


@compiled
def _fill_ramp(row, at, towards, length):
    """0 at `at`, then 1, 2, ... over `length` entries to one side, FAR from 255 on."""
    near = min(length, FAR - 1)
    for i in range(near + 1):
        row[at + towards * i] = i
    for i in range(near + 1, length + 1):
        row[at + towards * i] = FAR


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
