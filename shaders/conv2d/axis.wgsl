// One dimension of a convolution's sum over taps: target position t * step + origin is the sum over taps j of source
// position t * stride + offset + j * offset_step, times the weight at kernel + j * kernel_step.
//
// The forward pass is one such sum. The gradient of the input (BACKWARD) is one for each phase, that is for each
// remainder of a position by the stride: only every PERIOD-th tap reaches a position, and the same ones for all
// positions of a phase. The last of them comes first, so that source positions ascend.
//
// SOURCE_*, TARGET_*: extents of the two images. KERNEL_*, STRIDE_*, DILATION_*, BEFORE_*: the window and the padding
// before the image. PERIOD_*: stride / gcd(stride, dilation).
import package::constants::{
    SOURCE_HEIGHT, TARGET_HEIGHT, KERNEL_HEIGHT, STRIDE_HEIGHT, DILATION_HEIGHT, BEFORE_HEIGHT, PERIOD_HEIGHT,
    SOURCE_WIDTH, TARGET_WIDTH, KERNEL_WIDTH, STRIDE_WIDTH, DILATION_WIDTH, BEFORE_WIDTH, PERIOD_WIDTH,
};

struct Axis {
    count: u32,
    origin: u32,
    step: u32,
    stride: i32,
    taps: u32,
    offset: i32,
    offset_step: i32,
    kernel: i32,
    kernel_step: i32,
}

@if(!BACKWARD)
fn axis(phase: u32, extent: u32, kernel: u32, stride: u32, dilation: u32, before: u32, period: u32) -> Axis {
    return Axis(extent, 0u, 1u, i32(stride), kernel, -i32(before), i32(dilation), 0, 1);
}

@if(BACKWARD)
fn axis(phase: u32, extent: u32, kernel: u32, stride: u32, dilation: u32, before: u32, period: u32) -> Axis {
    let count = (extent - phase + stride - 1u) / stride;
    var last = i32(kernel) - 1;
    while last >= 0 && (i32(phase + before) - last * i32(dilation)) % i32(stride) != 0 {
        last -= 1;
    }
    let taps = select(0u, u32(last) / period + 1u, last >= 0);
    let offset = (i32(phase + before) - last * i32(dilation)) / i32(stride);
    return Axis(count, phase, stride, 1, taps, offset, i32(period * dilation / stride), last, -i32(period));
}

// The axis of rows in phase `phase` of the dispatch's z.
fn rows_of(phase: u32) -> Axis {
    return axis(
        phase / min(STRIDE_WIDTH, TARGET_WIDTH),
        TARGET_HEIGHT, KERNEL_HEIGHT, STRIDE_HEIGHT, DILATION_HEIGHT, BEFORE_HEIGHT, PERIOD_HEIGHT,
    );
}

// The axis of columns likewise.
fn columns_of(phase: u32) -> Axis {
    return axis(
        phase % min(STRIDE_WIDTH, TARGET_WIDTH),
        TARGET_WIDTH, KERNEL_WIDTH, STRIDE_WIDTH, DILATION_WIDTH, BEFORE_WIDTH, PERIOD_WIDTH,
    );
}

// Where a sum begins in the source: its first tap's place in memory, and its row and column, which may lie outside of
// the image. Places are counted in what a pixel has `units` of.
struct Corner {
    place: u32,
    row: i32,
    column: i32,
}

// Corner of position `at` of a phase; the positions are counted along the columns first. A position that is not below
// `count` has its corner far outside.
fn corner_of(at: u32, count: u32, rows: Axis, columns: Axis, units: u32) -> Corner {
    let image = at / (columns.count * rows.count);
    let row = i32(at / columns.count % rows.count) * rows.stride + rows.offset;
    let column = i32(at % columns.count) * columns.stride + columns.offset;
    let place = (image * (SOURCE_HEIGHT * SOURCE_WIDTH) + u32(row * i32(SOURCE_WIDTH) + column)) * units;
    return Corner(place, row + select(0, -0x40000000, at >= count), column);
}

// Distance in memory from a corner to what a tap reads.
fn reach(tap_row: u32, tap_column: u32, rows: Axis, columns: Axis, units: u32) -> u32 {
    return (tap_row * u32(rows.offset_step) * SOURCE_WIDTH + tap_column * u32(columns.offset_step)) * units;
}

// Pixel of the target that position `at` of a phase is.
fn target_of(at: u32, rows: Axis, columns: Axis) -> u32 {
    let column = at % columns.count;
    let row = at / columns.count % rows.count;
    let image = at / (columns.count * rows.count);
    return (image * TARGET_HEIGHT + row * rows.step + rows.origin) * TARGET_WIDTH
        + column * columns.step + columns.origin;
}

// The bits of a tap: one for its row, and above those of all rows one for its column.
fn tap_bits(tap_row: u32, tap_column: u32) -> u32 {
    return (1u << tap_row) | (1u << (KERNEL_HEIGHT + tap_column));
}

// The bits of all tap rows and tap columns of the window at a corner that lie inside of the source: a tap does where
// both of its bits are among them. Bit 31 is never among them, so that NO_TAP is inside of no window.
fn taps_inside(corner: Corner, rows: Axis, columns: Axis) -> u32 {
    var bits = 0u;
    for (var i = 0u; i < rows.taps; i++) {
        bits |= select(0u, 1u << i, u32(corner.row + i32(i) * rows.offset_step) < SOURCE_HEIGHT);
    }
    for (var i = 0u; i < columns.taps; i++) {
        let within = u32(corner.column + i32(i) * columns.offset_step) < SOURCE_WIDTH;
        bits |= select(0u, 1u << (KERNEL_HEIGHT + i), within);
    }
    return bits;
}

const NO_TAP: u32 = 0x80000000u;

// Whether a pixel lies inside of a source image.
fn inside(row: i32, column: i32) -> bool {
    return u32(row) < SOURCE_HEIGHT && u32(column) < SOURCE_WIDTH;
}
