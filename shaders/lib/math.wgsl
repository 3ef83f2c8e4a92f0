// Functions that WGSL lacks or leaves undefined at the edges, for one float and for four.

// The error function, by the Chebyshev fit of erfc in Numerical Recipes (relative error of erfc below 1.2e-7).
fn erf4(x: vec4<f32>) -> vec4<f32> {
    let z = abs(x);
    let t = 1.0 / (1.0 + 0.5 * z);
    var p = vec4<f32>(0.17087277);
    p = p * t - 0.82215223;
    p = p * t + 1.48851587;
    p = p * t - 1.13520398;
    p = p * t + 0.27886807;
    p = p * t - 0.18628806;
    p = p * t + 0.09678418;
    p = p * t + 0.37409196;
    p = p * t + 1.00002368;
    p = p * t - 1.26551223;
    let tail = t * exp(p - z * z);
    // Near 0 the difference 1 - tail cancels: there the Maclaurin series is exact to rounding.
    let s = x * x;
    let series = x * (1.1283792 + s * (-0.37612638 + s * (0.11283792 + s * (-0.026866171 + s * 0.0052239776))));
    return select(sign(x) * (1.0 - tail), series, z < vec4<f32>(0.5));
}

fn erf(x: f32) -> f32 {
    return erf4(vec4<f32>(x)).x;
}

// tanh without the overflow that an implementation by exp has beyond 44.
fn safe_tanh4(x: vec4<f32>) -> vec4<f32> {
    return tanh(clamp(x, vec4<f32>(-15.0), vec4<f32>(15.0)));
}

fn safe_tanh(x: f32) -> f32 {
    return tanh(clamp(x, -15.0, 15.0));
}

// The nearest whole number from -128 to 127, ties to even; 0 for NaN, told by its bits as below.
fn round_byte4(x: vec4<f32>) -> vec4<f32> {
    let is_nan = (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    return select(clamp(round(x), vec4<f32>(-128.0), vec4<f32>(127.0)), vec4<f32>(0.0), is_nan);
}

fn round_byte(x: f32) -> f32 {
    return round_byte4(vec4<f32>(x)).x;
}

// The nearest number that 16 bits hold, ties to even; infinite beyond 65504. By its bits: compilers leave a conversion
// to f16 and back out, as though it did not round.
fn round_half4(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let sign = bits & vec4<u32>(0x80000000u);
    let size = bits ^ sign;
    let odd = (size >> vec4<u32>(13u)) & vec4<u32>(1u);
    let cut = (size + vec4<u32>(0xfffu) + odd) & vec4<u32>(0xffffe000u);
    let normal = select(cut, vec4<u32>(0x7f800000u), cut >= vec4<u32>(0x47800000u));
    // Below 2^-14 the numbers are multiples of 2^-24, as f32 has them between 0.5 and 1.
    let steps = bitcast<vec4<u32>>(bitcast<vec4<f32>>(size) + 0.5) - vec4<u32>(0x3f000000u);
    let subnormal = bitcast<vec4<u32>>(vec4<f32>(steps) * 5.9604645e-8);
    let rounded = select(normal, subnormal, size < vec4<u32>(0x38800000u));
    let is_nan = size > vec4<u32>(0x7f800000u);
    return bitcast<vec4<f32>>(select(rounded, size, is_nan) | sign);
}

fn round_half(x: f32) -> f32 {
    return round_half4(vec4<f32>(x)).x;
}

// 1 where neither infinite nor NaN, else 0, told by the exponent: compilers may assume that a comparison with a NaN
// never happens.
fn finite4(x: vec4<f32>) -> vec4<f32> {
    let exponent = bitcast<vec4<u32>>(x) & vec4<u32>(0x7f800000u);
    return select(vec4<f32>(0.0), vec4<f32>(1.0), exponent != vec4<u32>(0x7f800000u));
}

fn finite(x: f32) -> f32 {
    return select(0.0, 1.0, (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u);
}
