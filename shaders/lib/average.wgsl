// The number of elements that an average pooling divides by.
import package::constants::{
    HEIGHT, WIDTH, KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, BEFORE_H, BEFORE_W,
    PADDED_H, PADDED_W,
};
import package::lib::window::{Range, taps_of};

// Taps of window (oh, ow) that lie in the padded image, or without INCLUDE_PADDING in the image itself; at least 1.
fn divisor(oh: u32, ow: u32) -> f32 {
    @if(INCLUDE_PADDING) {
        let rows = taps_of(oh, PADDED_H, KERNEL_H, STRIDE_H, DILATION_H, 0u);
        let columns = taps_of(ow, PADDED_W, KERNEL_W, STRIDE_W, DILATION_W, 0u);
        return f32(max(rows.end * columns.end, 1u));
    }
    @if(!INCLUDE_PADDING) {
        let rows = taps_of(oh, HEIGHT, KERNEL_H, STRIDE_H, DILATION_H, BEFORE_H);
        let columns = taps_of(ow, WIDTH, KERNEL_W, STRIDE_W, DILATION_W, BEFORE_W);
        return f32(max((rows.end - rows.begin) * (columns.end - columns.begin), 1u));
    }
}
