// The smoothed target distribution of a sample:
// target[row, c] = (1 - SMOOTHING) * label[row, c] + SMOOTHING / COLUMNS, where label is one-hot unless SOFT is on.
import package::constants::{COLUMNS, SMOOTHING};

@if(SOFT) @group(0) @binding(1) var<storage, read> labels: array<f32>;
@if(!SOFT) @group(0) @binding(1) var<storage, read> labels: array<u32>;

fn target_of(row: u32, c: u32) -> f32 {
    @if(SOFT) let label = labels[row * COLUMNS + c];
    @if(!SOFT) let label = select(0.0, 1.0, labels[row] == c);
    return (1.0 - SMOOTHING) * label + SMOOTHING / f32(COLUMNS);
}
