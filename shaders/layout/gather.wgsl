// Elements moved to other places: output[i] = input[OFFSET + sum over axes k of (coordinate_k - BEGIN_k) * STRIDE_k]
// where 0 <= coordinate_k - BEGIN_k < LENGTH_k on every axis k, else 0. coordinate_0 to coordinate_5 are the places of i
// along six axes of extents EXTENT_k, outermost first. Transposition, slices and padding are such moves.
//
// binding 0  input   Words (u32 or f32, moved as they are; four in a row where VECTOR is on)
// binding 1  output  [EXTENT_0, ..., EXTENT_5] Words
//
// An invocation owns one Word of the output, a workgroup 256 in a row. COUNT: number of Words of the output. OFFSET,
// the innermost extent, and the strides of the other axes count Words too.
import package::constants::{
    COUNT, OFFSET,
    EXTENT_0, EXTENT_1, EXTENT_2, EXTENT_3, EXTENT_4, EXTENT_5,
    STRIDE_0, STRIDE_1, STRIDE_2, STRIDE_3, STRIDE_4, STRIDE_5,
    BEGIN_0, BEGIN_1, BEGIN_2, BEGIN_3, BEGIN_4, BEGIN_5,
    LENGTH_0, LENGTH_1, LENGTH_2, LENGTH_3, LENGTH_4, LENGTH_5,
};
import package::lib::element::Word;
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> input: array<Word>;
@group(0) @binding(1) var<storage, read_write> output: array<Word>;

struct Walk {
    rest: u32,
    at: u32,
    inside: bool,
}

// Takes one axis off the index, innermost first. Before BEGIN the difference wraps around to a number above LENGTH.
fn axis(walk: Walk, extent: u32, stride: u32, begin: u32, length: u32) -> Walk {
    let coordinate = walk.rest % extent - begin;
    return Walk(walk.rest / extent, walk.at + coordinate * stride, walk.inside && coordinate < length);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i >= COUNT {
        return;
    }
    var walk = Walk(i, OFFSET, true);
    walk = axis(walk, EXTENT_5, STRIDE_5, BEGIN_5, LENGTH_5);
    walk = axis(walk, EXTENT_4, STRIDE_4, BEGIN_4, LENGTH_4);
    walk = axis(walk, EXTENT_3, STRIDE_3, BEGIN_3, LENGTH_3);
    walk = axis(walk, EXTENT_2, STRIDE_2, BEGIN_2, LENGTH_2);
    walk = axis(walk, EXTENT_1, STRIDE_1, BEGIN_1, LENGTH_1);
    walk = axis(walk, EXTENT_0, STRIDE_0, BEGIN_0, LENGTH_0);
    var word = Word(0u);
    if walk.inside {
        word = input[walk.at];
    }
    output[i] = word;
}
