// One part of a concatenation: output[row, OFFSET + j] = input[row, j] for j below LENGTH; the rest stays as it is.
//
// binding 0  input   [ROWS, LENGTH] Words (u32 or f32, moved as they are; four in a row where VECTOR is on)
// binding 1  output  [ROWS, STRIDE] Words
//
// An invocation owns one Word of the input, a workgroup 256 in a row. COUNT: ROWS * LENGTH.
import package::constants::{COUNT, LENGTH, STRIDE, OFFSET};
import package::lib::element::Word;
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> input: array<Word>;
@group(0) @binding(1) var<storage, read_write> output: array<Word>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i < COUNT {
        output[i / LENGTH * STRIDE + OFFSET + i % LENGTH] = input[i];
    }
}
