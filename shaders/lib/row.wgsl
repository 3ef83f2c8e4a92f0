// Reductions over a row that LANES invocations of a workgroup of 256 share: invocation n is lane n % LANES of row
// n / LANES. Every invocation of the workgroup must call them, and each gets its row's result. The order of additions
// is fixed: a tree. With SUBGROUPS it is a butterfly within each subgroup, then the subgroups of a row in order.
// local: n, from lib/subgroup. size: of the subgroup.
// LANES: power of two up to 256.
import package::constants::LANES;
import package::lib::subgroup::exchanges;

var<workgroup> partial: array<f32, 256>;

@if(!SUBGROUPS)
fn row_sum(value: f32, local: u32, size: u32) -> f32 {
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

@if(!SUBGROUPS)
fn row_max(value: f32, local: u32, size: u32) -> f32 {
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

@if(SUBGROUPS)
fn row_sum(value: f32, local: u32, size: u32) -> f32 {
    var sum = value;
    if exchanges(1u, 1u, LANES, size) { sum += subgroupShuffleXor(sum, 1u); }
    if exchanges(2u, 1u, LANES, size) { sum += subgroupShuffleXor(sum, 2u); }
    if exchanges(4u, 1u, LANES, size) { sum += subgroupShuffleXor(sum, 4u); }
    if exchanges(8u, 1u, LANES, size) { sum += subgroupShuffleXor(sum, 8u); }
    if exchanges(16u, 1u, LANES, size) { sum += subgroupShuffleXor(sum, 16u); }
    if exchanges(32u, 1u, LANES, size) { sum += subgroupShuffleXor(sum, 32u); }
    if exchanges(64u, 1u, LANES, size) { sum += subgroupShuffleXor(sum, 64u); }
    if LANES > size {
        let row = publish(sum, local, size);
        sum = partial[row];
        for (var at = size; at < LANES; at += size) {
            sum += partial[row + at];
        }
        // The next reduction writes the same memory.
        workgroupBarrier();
    }
    return sum;
}

@if(SUBGROUPS)
fn row_max(value: f32, local: u32, size: u32) -> f32 {
    var largest = value;
    if exchanges(1u, 1u, LANES, size) { largest = max(largest, subgroupShuffleXor(largest, 1u)); }
    if exchanges(2u, 1u, LANES, size) { largest = max(largest, subgroupShuffleXor(largest, 2u)); }
    if exchanges(4u, 1u, LANES, size) { largest = max(largest, subgroupShuffleXor(largest, 4u)); }
    if exchanges(8u, 1u, LANES, size) { largest = max(largest, subgroupShuffleXor(largest, 8u)); }
    if exchanges(16u, 1u, LANES, size) { largest = max(largest, subgroupShuffleXor(largest, 16u)); }
    if exchanges(32u, 1u, LANES, size) { largest = max(largest, subgroupShuffleXor(largest, 32u)); }
    if exchanges(64u, 1u, LANES, size) { largest = max(largest, subgroupShuffleXor(largest, 64u)); }
    if LANES > size {
        let row = publish(largest, local, size);
        for (var at = 0u; at < LANES; at += size) {
            largest = max(largest, partial[row + at]);
        }
        workgroupBarrier();
    }
    return largest;
}

// Shows the value of each subgroup, at the number of its first invocation, to all others, and returns the number of the
// row's first invocation.
@if(SUBGROUPS)
fn publish(value: f32, local: u32, size: u32) -> u32 {
    if local % size == 0u {
        partial[local] = value;
    }
    workgroupBarrier();
    return local / LANES * LANES;
}
