// The last transform of the gradient of the weights by Winograd's F(2x2, 3x3):
//     output[r, s, k, n] = (G' m G)[r, s], where m[u, v] = sum over s of products[4 u + v, s, k, n].
//
// binding 0  products  [16, SPLITS, K, N] f32
// binding 1  output    [3, 3, K, N] f32
//
// An invocation owns four neighbours along N. PAIRS: K * N / 4. ADDED: to what the output holds.
import package::constants::{PAIRS, SPLITS};
import package::conv2d::winograd::transform::{Three, Four, to_weight_gradient};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> products: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let pair = linear(id, local, count);
    if pair >= PAIRS {
        return;
    }
    var rows: array<Three, 4>;
    for (var r = 0u; r < 4u; r++) {
        var line: Four;
        for (var c = 0u; c < 4u; c++) {
            let first = (4u * r + c) * SPLITS * PAIRS + pair;
            line[c] = products[first];
            for (var split = 1u; split < SPLITS; split++) {
                line[c] += products[first + split * PAIRS];
            }
        }
        rows[r] = to_weight_gradient(line);
    }
    for (var c = 0u; c < 3u; c++) {
        let column = to_weight_gradient(Four(rows[0][c], rows[1][c], rows[2][c], rows[3][c]));
        for (var r = 0u; r < 3u; r++) {
            let to = (3u * r + c) * PAIRS + pair;
            @if(ADDED) { output[to] += column[r]; }
            @if(!ADDED) { output[to] = column[r]; }
        }
    }
}
