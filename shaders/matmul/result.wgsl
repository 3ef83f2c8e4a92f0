// How a matrix product writes its result.
//
// binding 2      y  matrices [M, N] f32 or f16, as vec4s where VECTOR_Y is on
// binding 3 + n  input 1 + n of the epilogue, broadcast to y; declared in package::fused
import package::constants::{M, N};
import package::fused::{Element, Stored, fused};

@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

// Stores four neighbours of row `row` of matrix `matrix`, those that exist, after the epilogue. `column` is a multiple
// of 4.
fn store(matrix: u32, row: u32, column: u32, values: vec4<f32>) {
    if row < M && column < N {
        let at = (matrix * M + row) * N + column;
        @if(VECTOR_Y) { y[at / 4u] = Stored(fused(values, at / 4u)); }
        @if(!VECTOR_Y) {
            y[at] = Stored(fused(values.x, at));
            if column + 1u < N { y[at + 1u] = Stored(fused(values.y, at + 1u)); }
            if column + 2u < N { y[at + 2u] = Stored(fused(values.z, at + 2u)); }
            if column + 3u < N { y[at + 3u] = Stored(fused(values.w, at + 3u)); }
        }
    }
}

// The same in two parts, for kernels with so many sums that an epilogue for each of them would not be unrolled any more: the
// sums are stored as they are, and the epilogue follows from memory.
@if(VECTOR_Y)
fn store_sum(matrix: u32, row: u32, column: u32, values: vec4<f32>) {
    if row < M && column < N {
        y[((matrix * M + row) * N + column) / 4u] = Stored(values);
    }
}

@if(VECTOR_Y)
fn finish(matrix: u32, row: u32, column: u32) {
    if column < N {
        let at = ((matrix * M + row) * N + column) / 4u;
        y[at] = Stored(fused(Element(y[at]), at));
    }
}
