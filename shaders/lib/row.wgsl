// Reductions over a row that LANES invocations of a workgroup of 256 share: invocation `local` is lane local % LANES of
// its row. Every invocation of the workgroup must call them, and each gets its row's result. The order of additions is
// fixed: a tree. LANES: power of two up to 256.
import package::constants::LANES;

var<workgroup> partial: array<f32, 256>;

fn row_sum(value: f32, local: u32) -> f32 {
    let lane = local % LANES;
    partial[local] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    let sum = partial[local - lane];
    // The next reduction writes the same memory.
    workgroupBarrier();
    return sum;
}

fn row_max(value: f32, local: u32) -> f32 {
    let lane = local % LANES;
    partial[local] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            partial[local] = max(partial[local], partial[local + half]);
        }
        workgroupBarrier();
    }
    let largest = partial[local - lane];
    workgroupBarrier();
    return largest;
}
