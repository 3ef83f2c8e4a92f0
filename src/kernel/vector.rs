//! The processor's vectors, for either float.

use bytemuck::{Pod, cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};

use super::instructions::arch;
use crate::tensor::Real;

/// A float with the vectors that the instruction set `S` has of it.
pub(crate) trait Vector<S: Simd>: Real {
    /// A vector.
    type Lanes: Pod;

    /// Number of elements of a vector.
    const LANES: usize = size_of::<Self::Lanes>() / size_of::<Self>();

    /// A vector of equal elements.
    fn splat(simd: S, value: Self) -> Self::Lanes;

    /// `a + b`.
    fn plus(simd: S, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;

    /// `a - b`.
    fn minus(simd: S, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;

    /// `a * b`.
    fn times(simd: S, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;

    /// `a * b + c`.
    fn mul_add(simd: S, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
}

impl<S: Simd> Vector<S> for f32 {
    type Lanes = S::f32s;

    #[inline(always)]
    fn splat(simd: S, value: Self) -> S::f32s {
        simd.splat_f32s(value)
    }

    #[inline(always)]
    fn plus(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }

    #[inline(always)]
    fn minus(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.sub_f32s(a, b)
    }

    #[inline(always)]
    fn times(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.mul_f32s(a, b)
    }

    #[inline(always)]
    fn mul_add(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }
}

impl<S: Simd> Vector<S> for f64 {
    type Lanes = S::f64s;

    #[inline(always)]
    fn splat(simd: S, value: Self) -> S::f64s {
        simd.splat_f64s(value)
    }

    #[inline(always)]
    fn plus(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.add_f64s(a, b)
    }

    #[inline(always)]
    fn minus(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.sub_f64s(a, b)
    }

    #[inline(always)]
    fn times(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.mul_f64s(a, b)
    }

    #[inline(always)]
    fn mul_add(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }
}

/// A loop that reads two slices and updates a third, written for any vectors.
pub(crate) trait Kernel: Copy {
    fn run<S: Simd, T: Vector<S>>(self, simd: S, a: &[T], b: &[T], out: &mut [T]);
}

struct Call<'a, K, T> {
    kernel: K,
    a: &'a [T],
    b: &'a [T],
    out: &'a mut [T],
}

macro_rules! with_simd {
    ($float:ty) => {
        impl<K: Kernel> WithSimd for Call<'_, K, $float> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                self.kernel.run(simd, self.a, self.b, self.out);
            }
        }
    };
}

with_simd!(f32);
with_simd!(f64);

/// Runs `kernel` compiled for the vectors that kernels use.
pub(crate) fn run<T: Real>(kernel: impl Kernel, a: &[T], b: &[T], out: &mut [T]) {
    let arch = arch();
    match size_of::<T>() {
        4 => arch.dispatch(Call::<_, f32> { kernel, a: cast_slice(a), b: cast_slice(b), out: cast_slice_mut(out) }),
        _ => arch.dispatch(Call::<_, f64> { kernel, a: cast_slice(a), b: cast_slice(b), out: cast_slice_mut(out) }),
    }
}

/// Number of elements of such a vector.
pub(crate) fn lanes<T: Real>() -> usize {
    struct Bytes;
    impl WithSimd for Bytes {
        type Output = usize;

        fn with_simd<S: Simd>(self, _: S) -> usize {
            size_of::<S::f32s>()
        }
    }
    // Without vectors an element of either float is one of its own.
    (arch().dispatch(Bytes) / size_of::<T>()).max(1)
}
