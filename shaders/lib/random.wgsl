// Random numbers from a counter: the same counter gives the same bits on every device and in src/kernel/random.rs.

// Four random words of a counter of four words: the hash pcg4d of Jarzynski and Olano 2020, Hash Functions for GPU
// Rendering, and one more xor-shift at the end, without which the lowest bits are biased.
fn pcg4d(counter: vec4<u32>) -> vec4<u32> {
    var v = counter * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= v >> vec4<u32>(16u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v ^ (v >> vec4<u32>(16u));
}
