// Signed bytes as buffers hold them: four to a word, the first in its lowest bits.

// The four bytes of a word.
fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// Byte number `at`, counted through the buffer, of the word that holds it.
fn signed_byte(word: u32, at: u32) -> f32 {
    return f32(bitcast<i32>(word << (24u - at % 4u * 8u)) >> 24u);
}

// Four whole numbers from -128 to 127 as a word.
fn word_of(values: vec4<f32>) -> u32 {
    let bytes = bitcast<vec4<u32>>(vec4<i32>(values)) & vec4<u32>(0xffu);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
