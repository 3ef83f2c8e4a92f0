// The transform of the weights g of Winograd's F(2x2, 3x3): transformed[4 i + j, k, n] = (G g G')[i, j].
//
// binding 0  weight       [3, 3, K, N] f32
// binding 1  transformed  [16, K, N] f32
//
// An invocation owns four neighbours along N. PAIRS: K * N / 4. FLIPPED: the taps are taken from the last to the first,
// for the gradient of the input.
import package::constants::PAIRS;
import package::conv2d::winograd::transform::{Three, Four, of_weight};
import package::lib::index::linear;

@group(0) @binding(0) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> transformed: array<vec4<f32>>;

fn load(tap: u32, pair: u32) -> vec4<f32> {
    @if(FLIPPED) { return weight[(8u - tap) * PAIRS + pair]; }
    @if(!FLIPPED) { return weight[tap * PAIRS + pair]; }
}

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
    var rows: array<Four, 3>;
    for (var r = 0u; r < 3u; r++) {
        rows[r] = of_weight(Three(load(3u * r, pair), load(3u * r + 1u, pair), load(3u * r + 2u, pair)));
    }
    for (var j = 0u; j < 4u; j++) {
        let column = of_weight(Three(rows[0][j], rows[1][j], rows[2][j]));
        for (var r = 0u; r < 4u; r++) {
            transformed[(4u * r + j) * PAIRS + pair] = column[r];
        }
    }
}
