// Moments of the rows of a tile of a convolution's output, for each channel: mean and sum of squared deviations from it, as
// norm/statistics.wgsl merges them.
//
// binding 3  moments  [tiles of rows, N, 2] f32, four channels' means before their squares
//
// All invocations of a workgroup call it together. Their sums over their own rows meet in workgroup memory, where the tile
// of b was, and are added in order. N: a multiple of 4.
import package::constants::{N, THREADS_M, THREADS_N, VECTORS_M, VECTORS_N};
import package::conv2d::tile::{SUMS, TILE_M4, TILE_N4, b_tile};

@group(0) @binding(3) var<storage, read_write> moments: array<vec4<f32>>;

alias Channels = array<vec4<f32>, VECTORS_N>;

// Sums of what the invocations of the same channels have.
fn add_up(own: Channels, m: u32, n: u32) -> Channels {
    for (var j = 0u; j < VECTORS_N; j++) {
        b_tile[m * TILE_N4 + n + j * THREADS_N] = own[j];
    }
    workgroupBarrier();
    var all: Channels;
    for (var other = 0u; other < THREADS_M; other++) {
        for (var j = 0u; j < VECTORS_N; j++) {
            all[j] += b_tile[other * TILE_N4 + n + j * THREADS_N];
        }
    }
    workgroupBarrier();
    return all;
}

// Of the tile's first `rows` rows; it is the tile `tile_m` along rows, and its channels begin at vector first_n4.
fn measure(sums: ptr<function, array<vec4<f32>, SUMS>>, m: u32, n: u32, rows: u32, tile_m: u32, first_n4: u32) {
    var own: Channels;
    for (var i = 0u; i < VECTORS_M; i++) {
        for (var r = 0u; r < 4u; r++) {
            let inside = (m + i * THREADS_M) * 4u + r < rows;
            for (var j = 0u; j < VECTORS_N; j++) {
                own[j] += select(vec4<f32>(0.0), (*sums)[(i * VECTORS_N + j) * 4u + r], inside);
            }
        }
    }
    var means = add_up(own, m, n);
    for (var j = 0u; j < VECTORS_N; j++) {
        means[j] /= f32(rows);
        own[j] = vec4<f32>(0.0);
    }
    for (var i = 0u; i < VECTORS_M; i++) {
        for (var r = 0u; r < 4u; r++) {
            let inside = (m + i * THREADS_M) * 4u + r < rows;
            for (var j = 0u; j < VECTORS_N; j++) {
                let deviation = (*sums)[(i * VECTORS_N + j) * 4u + r] - means[j];
                own[j] += select(vec4<f32>(0.0), deviation * deviation, inside);
            }
        }
    }
    let squares = add_up(own, m, n);
    if m == 0u {
        for (var j = 0u; j < VECTORS_N; j++) {
            let n4 = first_n4 + n + j * THREADS_N;
            if n4 < N / 4u {
                moments[(tile_m * (N / 4u) + n4) * 2u] = means[j];
                moments[(tile_m * (N / 4u) + n4) * 2u + 1u] = squares[j];
            }
        }
    }
}
