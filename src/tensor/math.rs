//! Transcendental functions in single precision without branches, which compilers turn into vector instructions: the
//! mathematical library's are calls, one element each. Over all magnitudes the exponential is within 1 unit in the last
//! place, the hyperbolic tangent within 2 and the error function within 6; what is infinite, overflows, is subnormal or
//! is NaN comes out as from the mathematical library. No fused multiply-add is used, so that every instruction set gives
//! the same bits.

/// `c[0] x^n + c[1] x^(n-1) + ..` by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients.into_iter().reduce(|sum, c| sum * x + c).unwrap_or(0.0)
}

/// `e^x`: `2^n e^r` with `|r| <= ln(2) / 2`, where `e^r` is the polynomial of the Cephes library (Moshier 1992).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Added to a number and subtracted again, it leaves the nearest whole number; the sum's low bits are that number.
    const ROUND: f32 = 12_582_912.0;
    // ln(2) in two parts: the product of the first with any exponent is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Beyond these the result is 0 or infinite. A NaN is neither less nor more, and stays.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let tail = polynomial(r, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
    let power = tail * (r * r) + r + 1.0;
    // 2^n as a product of two: it may be subnormal or overflow where neither of them does.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let two_to = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    power * two_to(n >> 1) * two_to(n.wrapping_sub(n >> 1))
}

/// Hyperbolic tangent: Cephes' polynomial near 0, elsewhere by `e^2x`.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let s = x * x;
    let near = polynomial(s, [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1]);
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    let y = if x.abs() < 0.625 { near * s * x + x } else { far };
    y.copysign(x)
}

/// The error function, odd and rational: `x P(x^2) / Q(x^2)`, fitted for the least relative error up to 4.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let s = x * x;
    let p = polynomial(
        s,
        [
            1.986_795e-6,
            2.845_657_6e-4,
            3.883_312_2e-3,
            5.310_164_3e-2,
            1.935_442_4e-1,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    let q = polynomial(s, [3.742_030_3e-5, 1.185_564_7e-3, 1.520_718_5e-2, 1.153_496_7e-1, 5.048_566_7e-1, 1.0]);
    let y = x * (p / q);
    // From 4 on it is 1 to the last bit. A NaN is neither less nor more, and stays.
    let y = if x > 4.0 || y > 1.0 { 1.0 } else { y };
    if x < -4.0 || y < -1.0 { -1.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `f`, in units in the last place of the true value, over numbers of all magnitudes.
    fn worst(f: fn(f32) -> f32, exact: fn(f64) -> f64) -> (f64, f32) {
        // A prime step through all bit patterns.
        let numbers = (0..u32::MAX).step_by(1009).map(f32::from_bits).filter(|x| x.is_finite());
        let mut worst = (0.0, 0.0);
        for x in numbers {
            let (got, want) = (f(x), exact(x.into()));
            let rounded = want as f32;
            if rounded.is_infinite() {
                assert_eq!(got, rounded, "of {x:e}");
                continue;
            }
            let size = rounded.abs().max(f32::MIN_POSITIVE);
            let unit = f64::from(size) - f64::from(f32::from_bits(size.to_bits() - 1));
            let error = (f64::from(got) - want).abs() / unit;
            assert!(!error.is_nan(), "{got} of {x:e}");
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    #[test]
    fn errors_are_few_units_in_the_last_place() {
        type Function = (&'static str, fn(f32) -> f32, fn(f64) -> f64, f64);
        let functions: [Function; 3] =
            [("exp", exp, f64::exp, 1.0), ("tanh", tanh, f64::tanh, 2.0), ("erf", erf, libm::erf, 6.0)];
        for (name, f, exact, most) in functions {
            let (error, at) = worst(f, exact);
            assert!(error < most, "{name}({at:e}) is off by {error} units");
            assert!(f(f32::NAN).is_nan(), "{name} of NaN");
            for x in [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0] {
                assert_eq!(f(x).to_bits(), (exact(x.into()) as f32).to_bits(), "{name} of {x}");
            }
        }
    }
}
