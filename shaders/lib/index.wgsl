// Which element or workgroup an invocation owns when a dispatch is folded into x and y.

// Number of this workgroup in a dispatch of `count.x * count.y` workgroups that are counted along x first.
fn workgroup(id: vec3<u32>, count: vec3<u32>) -> u32 {
    return id.y * count.x + id.x;
}

// Number of this invocation: 256 to a workgroup.
fn linear(id: vec3<u32>, local: u32, count: vec3<u32>) -> u32 {
    return workgroup(id, count) * 256u + local;
}
